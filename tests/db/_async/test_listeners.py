"""Listeners: a model's outputs for documents, kept equal to these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from superorm import (
    AsyncDB,
    AsyncSession,
    ComponentInUseError,
    ComponentNotFoundError,
    ConfigurationError,
    Document,
    Embedded,
    Listener,
    Mapped,
    Model,
    PredictionError,
    delete,
    field,
    insert,
    select,
    update,
)
from superorm.compile.plan import Find


class Heard(Embedded):
    words: Mapped[int] = field(default=0)


class Story(Document):
    """A document that listeners listen to."""

    __collection__ = "heard_stories"

    id: Mapped[int] = field(primary_key=True)
    text: Mapped[str | None] = field(default=None, name="t")
    year: Mapped[int] = field(default=0)
    facts: Mapped[Heard] = field(factory=Heard)


class LongStory(Story):
    """One of a class below."""

    chapters: Mapped[int] = field(default=1)


def length(text: str) -> int:
    """The model: fails for one text."""
    if text == "bad":
        raise ValueError("a bad text")
    return len(text)


async def fill(db: AsyncDB, count: int = 5) -> None:
    """Some stories: the text of each is as long as its key says."""
    await db.create_all(Story)
    async with db.begin() as session:
        session.add_all([Story(id=n, text="x" * n, year=1990 + n) for n in range(count)])


async def stored(db: AsyncDB, name: str = "lengths") -> dict[Any, Any]:
    """The outputs as they stand in the database, without anything being computed."""
    found = await db.parts.data_backend.read(Find("_superorm_outputs"))
    return {one["_id"]["key"]: one["output"] for one in found if one["_id"]["listener"] == name}


async def expected(db: AsyncDB, least: int = 0) -> dict[Any, Any]:
    """What they should be, from the documents as they are stored."""
    found = await db.parts.data_backend.read(Find("heard_stories"))
    return {one["_id"]: len(one["t"]) for one in found if one["t"] is not None and one["year"] >= least}


async def test_the_outputs_of_all_documents_are_there_when_it_was_added(db: AsyncDB) -> None:
    """The mapping reads single keys, iterates and counts; in the database there is one output a document."""
    await fill(db)
    await db.add(Model("length", length))
    seen: list[tuple[int, int, str]] = []
    listener = Listener("lengths", model="length", select=select(Story).where(Story.year > 1990), key=Story.text)
    added = await db.add(listener, progress=lambda done, total, what: seen.append((done, total, what)))
    assert 0 == added.version
    assert [(4, 4, "listener lengths")] == seen
    assert {1: 1, 2: 2, 3: 3, 4: 4} == await stored(db)
    outputs = await db.outputs("lengths")
    assert 3 == await outputs[3]
    assert 4 == await outputs.count()
    assert {1, 2, 3, 4} == {key async for key in outputs}
    assert {1: 1, 2: 2, 3: 3, 4: 4} == {key: value async for key, value in outputs.items()}
    assert await outputs.get(0) is None
    with pytest.raises(KeyError):
        await outputs[0]
    assert ["lengths"] == await db.show("listener")


async def test_the_same_again_is_nothing_new(db: AsyncDB) -> None:
    """Of another model there is another version, with outputs of its own; the first one's stay."""
    await fill(db, 3)
    made: list[str] = []

    def twice(text: str) -> int:
        return 2 * len(text)

    listener = Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text)
    assert 0 == (await db.add(listener)).version
    assert 0 == (await db.add(listener, progress=lambda *_: made.append("again"))).version
    assert [] == made
    await db.add(Model("length", twice))
    again = await db.add(Listener("lengths", model="length", select=select(Story), key=Story.text))
    assert 1 == again.version
    assert 4 == await (await db.outputs("lengths"))[2]
    await db.remove("listener", "lengths", 1)
    assert 2 == await (await db.outputs("lengths"))[2]


async def test_every_way_of_writing_is_followed(db: AsyncDB) -> None:
    """After each commit the stored outputs are those of the documents, which nobody has read yet."""
    await fill(db)
    select_some = select(Story).where(Story.year >= 1992)
    await db.add(Listener("lengths", model=Model("length", length), select=select_some, key=Story.text))

    async def holds() -> None:
        assert await expected(db, 1992) == await stored(db)

    await holds()
    async with AsyncSession(db) as session:
        story = await session.get_one(Story, 3)
        story.text = "longer than before"
        await session.commit()
        await holds()
        story.text = None
        await session.commit()
        await holds()
        session.add(LongStory(id=30, text="new", year=2000))
        await session.commit()
        await holds()
        (await session.get_one(Story, 4)).year = 3
        (await session.get_one(Story, 0)).year = 2003
        await session.commit()
        await holds()
        session.delete(await session.get_one(Story, 2))
        await session.commit()
        await holds()
        await session.bulk_insert([Story(id=40 + n, text="y" * n, year=1990 + n) for n in range(5)])
        await session.commit()
        await holds()
        await session.execute(update(Story).where(Story.id >= 43).values(text="all alike"))
        await session.commit()
        await holds()
        await session.execute(update(Story).where(Story.id == 41).set(Story.year.to(Story.year + 100)))
        await session.commit()
        await holds()
        await session.execute(insert(Story).values([Story(id=50, text="i", year=2000)]))
        await session.execute(insert(Story).values([{"id": 41, "text": "upserted", "year": 2020}]).upsert())
        await session.commit()
        await holds()
        await session.execute(delete(Story).where(Story.id == 44))
        await session.commit()
        await holds()
    assert {41: 8, 42: 2} == {key: value for key, value in (await stored(db)).items() if key in (41, 42, 44)}
    assert [] == await db.parts.data_backend.read(Find("_superorm_records", {"kind": "record"}))


async def test_only_changed_sources_are_computed_again(db: AsyncDB) -> None:
    """A change of another field, or back and forth, asks the model nothing."""
    await fill(db)
    asked: list[str] = []

    class Hearing:
        def predict(self, texts: list[str]) -> list[int]:
            asked.extend(texts)
            return [len(text) for text in texts]

        def __getstate__(self) -> dict[str, Any]:
            return {}

    model = Model("length", Hearing(), fingerprint="hearing")
    await db.add(Listener("lengths", model=model, select=select(Story).where(Story.year > 0), key=Story.text))
    assert ["", "x", "xx", "xxx", "xxxx"] == sorted(asked)
    asked.clear()
    async with db.begin() as session:
        (await session.get_one(Story, 1)).year = 5
        (await session.get_one(Story, 2)).facts.words = 5
        (await session.get_one(Story, 3)).text = "other"
    assert ["other"] == asked
    assert await expected(db) == await stored(db)


async def test_what_is_rolled_back_is_not_followed(db: AsyncDB, real: bool) -> None:
    """Neither outputs nor records of it stay, where there are transactions."""
    await fill(db)
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    async with AsyncSession(db) as session:
        (await session.get_one(Story, 3)).text = "longer than before"
        await session.flush()
        await session.rollback()
    outputs = await db.outputs("lengths")
    assert (3 if real else 18) == await outputs[3]
    assert await expected(db) == await stored(db)


async def test_what_could_not_be_computed_is_not_lost(db: AsyncDB) -> None:
    """The commit stands, reading says why there is no output, and once the text is mended there is one."""
    await fill(db)
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    async with db.begin() as session:
        (await session.get_one(Story, 3)).text = "bad"
    assert "bad" == (await db.parts.data_backend.read(Find("heard_stories", {"_id": 3})))[0]["t"]
    outputs = await db.outputs("lengths")
    with pytest.raises(PredictionError, match=r"listener 'lengths' version 0 has no output for Story 3: .*a bad text"):
        await outputs[1]
    report = await db.check(Story)
    assert not report.ok
    assert any("lengths" in problem and "a bad text" in problem for problem in report.problems)
    async with db.begin() as session:
        (await session.get_one(Story, 3)).text = "mended"
    assert 6 == await outputs[3]
    assert (await db.check(Story)).ok


async def test_nothing_stays_of_one_that_fails(db: AsyncDB) -> None:
    """A model that fails for a document leaves neither a listener nor itself, where that was added with it."""
    await fill(db)
    async with db.begin() as session:
        session.add(Story(id=9, text="bad"))
    with pytest.raises(PredictionError, match="has no output for Story 9"):
        await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    assert [] == await db.show("listener")
    assert [] == await db.show("model")
    assert {} == await stored(db)
    with pytest.raises(ComponentNotFoundError):
        await db.outputs("lengths")
    async with db.begin() as session:
        session.delete(await session.get_one(Story, 9))
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    assert await expected(db) == await stored(db)


async def test_a_listener_that_is_removed_takes_its_outputs_with_it(db: AsyncDB) -> None:
    """The other one's stay; the model is needed as long as it is there."""
    await fill(db, 3)
    await db.add(Model("length", length))
    for name in ("lengths", "others"):
        await db.add(Listener(name, model="length", select=select(Story), key=Story.text))
    outputs = await db.outputs("lengths")
    with pytest.raises(ComponentInUseError):
        await db.remove("model", "length")
    with pytest.raises(ComponentInUseError):
        await db.replace(Model("length", str.upper))
    with pytest.raises(ComponentInUseError):
        await db.replace(Listener("lengths", model="length", select=select(LongStory), key=Story.text))
    await db.remove("listener", "lengths")
    assert {} == await stored(db)
    assert {0: 0, 1: 1, 2: 2} == await stored(db, "others")
    with pytest.raises(ComponentNotFoundError, match="was removed"):
        await outputs[1]
    async with db.begin() as session:
        (await session.get_one(Story, 2)).text = "changed"
    assert {} == await stored(db)
    assert {0: 0, 1: 1, 2: 7} == await stored(db, "others")


def double(length: int) -> int | None:
    """The model of a second listener: it gives None for texts of three characters, and fails for long ones."""
    if length > 20:
        raise ValueError("too long")
    return None if length == 3 else 2 * length


async def chain(db: AsyncDB) -> None:
    """A listener, one to its outputs, and one to the outputs of that."""
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    await db.add(Listener("doubles", model=Model("double", double), listener="lengths"))
    texts = Listener("texts", model=Model("text", repr), listener="doubles")
    assert 0 == (await db.add(texts)).version


async def test_listeners_chain(db: AsyncDB) -> None:
    """Five documents have ten outputs of two listeners, and four of one that is given no None."""
    await fill(db)
    await chain(db)
    found = await db.parts.data_backend.read(Find("_superorm_outputs"))
    assert 14 == len(found)
    assert {0: 0, 1: 2, 2: 4, 3: None, 4: 8} == await stored(db, "doubles")
    outputs = await db.outputs("texts")
    assert {0: "0", 1: "2", 2: "4", 4: "8"} == {key: value async for key, value in outputs.items()}
    loaded = await db.load("listener", "texts")
    assert isinstance(loaded.listener, Listener)
    assert isinstance(loaded.listener.listener, Listener)
    assert ("doubles", "lengths") == (loaded.listener.name, loaded.listener.listener.name)
    same = Listener("texts", model="text", listener=Listener("doubles", model="double", listener="lengths"))
    assert 0 == (await db.add(same)).version


async def test_every_way_of_writing_is_followed_along_a_chain(db: AsyncDB) -> None:
    """After each commit the stored outputs of all its listeners are those of the documents."""
    await fill(db)
    await chain(db)

    async def holds() -> None:
        lengths = await expected(db)
        assert lengths == await stored(db)
        assert {key: double(one) for key, one in lengths.items()} == await stored(db, "doubles")
        assert {key: str(2 * one) for key, one in lengths.items() if one != 3} == await stored(db, "texts")
        assert [] == await db.parts.data_backend.read(Find("_superorm_records", {"kind": "record"}))

    async with AsyncSession(db) as session:
        (await session.get_one(Story, 3)).text = "four"
        (await session.get_one(Story, 4)).text = "xyz"
        await session.commit()
        await holds()
        session.delete(await session.get_one(Story, 2))
        session.add(Story(id=9, text="new one"))
        await session.commit()
        await holds()
        await session.execute(update(Story).where(Story.id >= 3).values(text="all alike"))
        await session.commit()
        await holds()
        await session.bulk_insert([Story(id=40 + n, text="y" * n) for n in range(5)])
        await session.execute(delete(Story).where(Story.id == 9))
        await session.commit()
        await holds()
    assert (await db.check(Story)).ok


async def test_the_second_model_is_asked_only_for_what_changed(db: AsyncDB) -> None:
    """A text of the same length leaves the second listener alone."""
    await fill(db)
    asked: list[int] = []

    class Hearing:
        def predict(self, lengths: list[int]) -> list[int]:
            asked.extend(lengths)
            return lengths

        def __getstate__(self) -> dict[str, Any]:
            return {}

    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    await db.add(Listener("same", model=Model("same", Hearing(), fingerprint="hearing"), listener="lengths"))
    assert [0, 1, 2, 3, 4] == sorted(asked)
    asked.clear()
    async with db.begin() as session:
        (await session.get_one(Story, 2)).text = "yy"
        (await session.get_one(Story, 3)).text = "longer"
    assert [6] == asked


async def test_a_second_model_that_fails(db: AsyncDB) -> None:
    """The first listener's outputs are there; whoever reads the second one's is told, until the text is mended."""
    await fill(db)
    await chain(db)
    async with db.begin() as session:
        (await session.get_one(Story, 1)).text = "z" * 30
    assert 30 == await (await db.outputs("lengths"))[1]
    outputs = await db.outputs("texts")
    with pytest.raises(PredictionError, match=r"listener 'doubles' version 0 has no output for Story 1: .*too long"):
        await outputs[0]
    problems = (await db.check(Story)).problems
    assert 2 == len(problems)
    assert all("too long" in problem for problem in problems)
    async with db.begin() as session:
        (await session.get_one(Story, 1)).text = "z" * 10
    assert "20" == await outputs[1]
    assert (await db.check(Story)).ok


async def test_a_chain_is_removed_from_its_end(db: AsyncDB) -> None:
    """What others listen to is needed; by force it is hidden, and still followed."""
    await fill(db)
    await chain(db)
    with pytest.raises(ComponentInUseError, match="listener 'doubles' version 0"):
        await db.remove("listener", "lengths")
    with pytest.warns(UserWarning, match="needed by the listener 'texts' version 0"):
        await db.remove("listener", "doubles", force=True)
    with pytest.raises(ComponentNotFoundError):
        await db.outputs("doubles")
    async with db.begin() as session:
        (await session.get_one(Story, 1)).text = "eight ch"
    assert "16" == (await stored(db, "texts"))[1]
    await db.remove("listener", "texts")
    assert {} == await stored(db, "texts")
    assert {} == await stored(db, "doubles")  # nothing needs it any more
    await db.remove("listener", "lengths")
    for name in ("_superorm_outputs", "_superorm_records"):
        kinds = {"kind": {"$ne": "models"}}
        assert [] == await db.parts.data_backend.read(Find(name, kinds))


async def test_the_newest_version_that_was_hidden(db: AsyncDB) -> None:
    """`outputs` gives those of the newest one that was not."""
    await fill(db, 3)
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    await db.add(Model("length", str.upper))
    await db.add(Listener("lengths", model="length", select=select(Story), key=Story.text))
    await db.add(Listener("again", model=Model("again", str.lower), listener="lengths"))
    with pytest.warns(UserWarning, match="hidden but kept"):
        await db.remove("listener", "lengths", 1, force=True)
    assert 2 == await (await db.outputs("lengths"))[2]
    assert "xx" == await (await db.outputs("again"))[2]


async def test_outputs_of_every_kind(db: AsyncDB) -> None:
    """They come back as the model gave them: numbers, texts, lists, dicts, None, numpy arrays of any shape."""
    await db.create_all(Story)
    given: dict[str, Any] = {
        "int": 3,
        "float": 2.5,
        "text": "a.b$c",
        "floats": [1.0, 2.5],
        "dict": {"label": "a", "scores": [0.5, 1]},
        "none": None,
        "vector": np.array([1.5, -2.0, np.inf], np.float32),
        "doubles": np.array([0.1, 0.2]),
        "matrix": np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar": np.float64(0.25),
    }
    async with db.begin() as session:
        session.add_all([Story(id=n, text=text) for n, text in enumerate(given)])
    model = Model("any", given.__getitem__, fingerprint="any")
    await db.add(Listener("a.name/with $ things ß", model=model, select=select(Story), key=Story.text))
    outputs = await db.outputs("a.name/with $ things ß")
    for n, output in enumerate(given.values()):
        found = await outputs[n]
        if isinstance(output, np.ndarray):
            assert (output.dtype, output.shape) == (found.dtype, found.shape)
            np.testing.assert_array_equal(output, found)
        else:
            assert output == found


async def test_an_output_that_cannot_be_stored(db: AsyncDB) -> None:
    """The error names the listener and the document."""
    await fill(db, 1)
    model = Model("any", lambda text: object(), fingerprint="objects")
    with pytest.raises(PredictionError, match=r"listener 'lengths' version 0 cannot store .* for 0"):
        await db.add(Listener("lengths", model=model, select=select(Story), key=Story.text))
    assert {} == await stored(db)


async def test_a_listener_without_its_model(db: AsyncDB) -> None:
    """Nothing is added where the model does not exist."""
    with pytest.raises(ComponentNotFoundError, match="missing"):
        await db.add(Listener("lengths", model="missing", select=select(Story), key=Story.text))
    assert [] == await db.show("listener")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"select": select(Story).limit(3)}, "conditions only"),
        ({"select": select(Story).order_by(Story.year)}, "conditions only"),
        ({"select": select(Story).distinct()}, "conditions only"),
        ({"select": select(Story).sample(3)}, "conditions only"),
        ({"select": select(Story.text)}, "whole documents"),
        ({"select": "stories"}, "listens to a select"),
        ({"key": "text"}, "its key is a field of Story"),
        ({"key": LongStory.chapters}, "its key is a field of Story"),
        ({"model": 3}, "needs a name"),
        ({"listener": "others"}, "listens to a select and a key, such as .*, or to a listener"),
        ({"select": None}, "or to a listener"),
        ({"key": None}, "or to a listener"),
        ({"select": None, "key": None}, "or to a listener"),
        ({"select": None, "key": None, "listener": 3}, "needs a name"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    """What cannot be listened to is refused where the listener is made."""
    arguments: dict[str, Any] = {"model": "length", "select": select(Story), "key": Story.text, **given}
    with pytest.raises(ConfigurationError, match=message):
        Listener("lengths", **arguments)


async def test_keys_that_no_document_has_are_in_no_outputs(db: AsyncDB) -> None:
    await fill(db)
    await db.add(Listener("lengths", model=Model("length", length), select=select(Story), key=Story.text))
    outputs = await db.outputs("lengths")
    for key in ("1", None, 2**70, [1], 77):
        with pytest.raises(KeyError):
            await outputs[key]
        assert await outputs.get(key, "none") == "none"


async def test_what_cannot_be_stored_is_told_in_words(db: AsyncDB) -> None:
    await fill(db, 1)
    given = Listener("parts", model=Model("parts", lambda text: {"a": [{text}]}), select=select(Story), key=Story.text)
    with pytest.raises(PredictionError, match=r"for 0 at a\.0: expected a value that BSON holds, got "):
        await db.add(given)


def test_a_listener_does_not_listen_to_its_own_name() -> None:
    with pytest.raises(ConfigurationError, match="its own name"):
        Listener("lengths", model="length", listener="lengths")


class Shelfmark(Embedded):
    room: Mapped[int]
    place: Mapped[str]


class Volume(Document):
    """A document that is known by where it stands."""

    __collection__ = "heard_volumes"

    mark: Mapped[Shelfmark] = field(primary_key=True)


async def test_primary_keys(db: AsyncDB) -> None:
    """The model may be given a document's key, or a part of it."""
    await fill(db)
    await db.add(Listener("tens", model=Model("ten", lambda n: n * 10), select=select(Story), key=Story.id))
    marks = [{"room": room, "place": place} for room, place in ((1, "a"), (2, "a"), (3, "b"))]
    async with db.begin() as session:
        session.add_all([Story(id=7), *(Volume(mark=Shelfmark(**mark)) for mark in marks[:2])])
    room, whole = Model("room", lambda n: n + 100), Model("whole", lambda mark: mark.place * mark.room)
    await db.add(Listener("rooms", model=room, select=select(Volume), key=Volume.mark.room))
    await db.add(Listener("wholes", model=whole, select=select(Volume), key=Volume.mark))
    async with db.begin() as session:
        session.add(Volume(mark=Shelfmark(**marks[2])))
    assert {n: n * 10 for n in (0, 1, 2, 3, 4, 7)} == await stored(db, "tens")
    for name, outputs in (("rooms", [101, 102, 103]), ("wholes", ["a", "aa", "bbb"])):
        found = await db.parts.data_backend.read(Find("_superorm_outputs"))
        kept = [one for one in found if one["_id"]["listener"] == name]
        assert list(zip(marks, outputs, strict=True)) == [
            (one["_id"]["key"], one["output"]) for one in sorted(kept, key=lambda one: one["_id"]["key"]["room"])
        ]
    assert (await db.check()).ok
