"""Names that could be taken for each other, and what statements leave in documents, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest

import superorm
from superorm import (
    DB,
    Document,
    Embedded,
    Mapped,
    Registry,
    Session,
    StatementError,
    UnsupportedError,
    aliased,
    column,
    field,
    func,
    load_only,
    select,
    window,
)
from tests.databases import drop_database

registry = Registry()


class Face(Embedded):
    eyes: Mapped[int]
    mouth: Mapped[str] = field(default="")


class Owner(Document, registry=registry):
    __collection__ = "owners"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]
    tags: Mapped[list[str]] = field(factory=list)


class Shelter(Document, registry=registry):
    __collection__ = "shelters"
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str]


class Pet(Document, registry=registry):
    __collection__ = "pets"
    __extra__ = "forbid"  # so that whatever a statement leaves in a document is an error
    id: Mapped[int] = field(primary_key=True)
    name: Mapped[str] = field(default="nobody", name="n")
    owner: Mapped[int | None] = field(default=None)
    age: Mapped[int] = field(default=0)
    toys: Mapped[list[str]] = field(factory=list)
    face: Mapped[Face | None] = field(default=None)


class Dog(Pet, registry=registry):
    barks: Mapped[int] = field(default=1)


class Cat(Pet, registry=registry):
    lives: Mapped[int] = field(default=9)


OWNERS = [(1, "Ann", ["x", "y"]), (2, "Bob", [])]
PETS: list[dict[str, Any]] = [
    {"_id": 1, "n": "Rex", "owner": 1, "age": 4, "toys": ["ball", "bone"], "face": {"eyes": 2}, "_type": "Dog"},
    {"_id": 2, "n": "Tom", "owner": 1, "age": 2, "toys": ["ball"], "face": None, "_type": "Cat"},
    {"_id": 3, "owner": 2, "age": 9, "toys": [], "face": {"eyes": 1, "mouth": "wide"}},
]
AGE = {pet["_id"]: pet["age"] for pet in PETS}
TOYS = {pet["_id"]: pet["toys"] for pet in PETS}
EYES = {pet["_id"]: (pet["face"] or {}).get("eyes") for pet in PETS}
older = (Pet.age + 1).label("older")
owners = select(Owner.name).where(Owner.id == Pet.owner).as_list().label("owners")


@pytest.fixture(scope="module")
def db(mongodb_uri: str) -> Iterator[DB]:
    """The pets and their owners, as they stand above."""
    name = f"names_{uuid4().hex[:10]}"
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_uri)
    client[name]["owners"].insert_many([{"_id": key, "name": n, "tags": tags} for key, n, tags in OWNERS])
    client[name]["shelters"].insert_one({"_id": 1, "name": "Farm"})
    client[name]["pets"].insert_many(PETS)
    with superorm.connect(mongodb_uri, database=name, vector_database="memory://", artifact_store="memory://") as db:
        yield db
    drop_database(client, name)
    client.close()


def rows(db: DB, statement: Any) -> list[Any]:
    """The rows, as tuples."""
    with Session(db) as session:
        return [tuple(row) for row in session.execute(statement)]


def of_pets(*values: Any) -> list[tuple[Any, ...]]:
    """A row for each pet, by dicts of its values."""
    return [tuple(value[pet["_id"]] for value in values) for pet in PETS]


@pytest.mark.parametrize("name", ["age", "n", "_id", "face", "eyes", "name", "two words"])
def test_a_label_may_be_a_stored_name(db: DB, name: str) -> None:
    """What is computed under a label is no stored field of that name, nor the other way round."""
    made = (Pet.age * 10).label(name)
    expected = of_pets(AGE, {key: age * 10 for key, age in AGE.items()}, EYES)
    assert expected == rows(db, select(Pet.age, made, Pet.face[Face.eyes]).order_by(Pet.id))
    swapped = [(eyes, computed, age) for age, computed, eyes in expected]
    assert swapped == rows(db, select(Pet.face[Face.eyes], made, Pet.age).order_by(Pet.id))


def test_equal_names_are_numbered(db: DB) -> None:
    """A number that is a name already is not given again."""
    statement = select(Pet.age, (Pet.age * 2).label("age_2"), (Pet.age * 3).label("age")).order_by(Pet.id)
    expected = [(age, age * 2, age * 3) for age in AGE.values()]
    assert expected == rows(db, statement)


def test_two_labels_of_one_name_are_refused() -> None:
    """Elsewhere in the statement it could mean either."""
    statement = select(func.sum(Pet.age).label("x"), func.max(Pet.age).label("x"))
    with pytest.raises(StatementError, match="two columns have the label 'x'"):
        statement.pipeline()


def test_a_label_named_like_a_function(db: DB) -> None:
    """The label goes before the name that a function without one gets."""
    total = func.sum(Pet.id).label("sum")
    statement = select(Pet.owner, func.sum(Pet.age), total).group_by(Pet.owner).order_by(total)
    assert [(1, 6, 3), (2, 9, 3)] == sorted(rows(db, statement))


def test_accumulators_that_differ_in_the_order_of_keys(db: DB) -> None:
    """To sort by one field and then another is not to sort by the other first."""
    by_owner = func.top(Pet.id, order_by=[Pet.owner, Pet.age])
    by_age = func.bottom(Pet.id, order_by=[Pet.age, Pet.owner])
    by_both = func.bottom(Pet.id, order_by=[Pet.owner, Pet.age])
    expected = (
        min(PETS, key=lambda pet: (pet["owner"], pet["age"]))["_id"],
        max(PETS, key=lambda pet: (pet["age"], pet["owner"]))["_id"],
        max(PETS, key=lambda pet: (pet["owner"], pet["age"]))["_id"],
    )
    assert [expected] == rows(db, select(by_owner.label("a"), by_age.label("b"), by_both.label("c")))


def test_windows_that_differ_in_the_order_of_keys(db: DB) -> None:
    """Each window is over its own order."""
    eyes = Pet.face[Face.eyes]
    one = window(func.push(Pet.id), order_by=[Pet.owner, eyes], documents=("unbounded", "current"))
    other = window(func.push(Pet.id), order_by=[eyes, Pet.owner], documents=("unbounded", "current"))
    found = {key: (a, b) for key, a, b in rows(db, select(Pet.id, one.label("a"), other.label("b")))}
    assert {1: ([2, 1], [2, 3, 1]), 2: ([2], [2]), 3: ([2, 1, 3], [2, 3])} == found


def test_what_groups_and_orders_compute(db: DB) -> None:
    """What an order computes does not take the place of what a group did."""
    statement = (
        select(Pet.owner, (func.sum(Pet.age) + 1).label("more")).group_by(Pet.owner).order_by(func.sum(Pet.id) * -1)
    )
    assert [(1, 7), (2, 10)] == sorted(rows(db, statement))


def test_joins_under_one_name(db: DB) -> None:
    """An alias may have the name of another class, and a label too."""
    shelter = aliased(Shelter, "Owner")
    statement = (
        select(Pet.id, Owner.name, shelter.name)
        .join(Owner, Pet.owner == Owner.id)
        .join(shelter, Pet.owner == shelter.id)
        .order_by(Pet.id)
    )
    assert [(1, "Ann", "Farm"), (2, "Ann", "Farm")] == rows(db, statement)
    loud = func.upper(Owner.name).label("Owner")
    found = rows(db, select(Pet, loud, Owner).join(Owner, Pet.owner == Owner.id).order_by(Pet.id))
    assert [(1, "ANN", "Ann"), (2, "ANN", "Ann"), (3, "BOB", "Bob")] == [(a.id, b, c.name) for a, b, c in found]


def test_fields_of_a_base_class_beside_a_subclass(db: DB) -> None:
    """They are those of the base class's own documents, where these are in the rows."""
    pairs = [(dog, pet) for dog in PETS for pet in PETS if dog.get("_type") == "Dog" and dog["owner"] == pet["owner"]]
    expected = sorted((dog["_id"], pet["_id"]) for dog, pet in pairs)
    assert expected == sorted(rows(db, select(Dog.id, Pet.id).join(Pet, Dog.owner == Pet.owner)))
    other = select(Pet.id, Dog.id).join(Dog, Pet.owner == Dog.owner)
    assert expected == sorted((dog, pet) for pet, dog in rows(db, other))
    dogs = select(Dog.id).where(Pet.owner == Dog.owner).as_list().label("dogs")
    assert [(1, [1]), (2, [1]), (3, [])] == rows(db, select(Pet.id, dogs).order_by(Pet.id))


@pytest.mark.parametrize(
    "statement",
    [
        select(Pet).order_by(Pet.age * -1),
        select(Pet).where(func.size(owners) > 0),
        select(Pet).where(Pet.id < 0).union_all(select(Pet).order_by(Pet.age * -1)),
        select(Pet, older),
        select(Pet, owners),
        select(Pet, window(func.sum(Pet.age)).label("total")),
        select(Pet, Owner).join(Owner, Pet.owner == Owner.id, outer=True),
        select(Pet, owners).unwind(owners),
        select(Pet).order_by(Pet.age * -1).facet(a=select(Pet).order_by(Pet.id * -1)),
    ],
    ids=str,
)
def test_documents_hold_nothing_but_their_own(db: DB, statement: Any) -> None:
    """What stages compute beside whole documents, asked for or not, is not theirs."""
    found = rows(db, statement)
    pets = found[0][0] if isinstance(found[0][0], list) else [row[0] for row in found]
    assert AGE == {pet.id: pet.age for pet in pets}


def test_a_union_of_documents_and_its_options(db: DB) -> None:
    """What is not loaded of some documents would look like their defaults."""
    union = select(Pet).where(Pet.id == 1).union_all(select(Pet).where(Pet.id == 2))
    ((one,), (two,)) = rows(db, union.options(load_only(Pet.age)))
    assert (4, 2) == (one.age, two.age)
    with pytest.raises(superorm.NotLoadedError):
        _ = two.toys
    with pytest.raises(StatementError, match=r"options\(\) are for the whole statement"):
        select(Pet).union_all(select(Pet).options(load_only(Pet.age))).pipeline()


def test_a_union_of_documents_of_two_subclasses(db: DB) -> None:
    """The first class tells what the documents are."""
    found = rows(db, select(Pet).where(Pet.id == 3).union_all(select(Cat)))
    assert [(3, Pet), (2, Cat)] == [(pet.id, type(pet)) for (pet,) in found]
    with pytest.raises(StatementError, match="of one class, or of one and its subclasses"):
        select(Dog).union_all(select(Cat)).pipeline()


def test_columns_of_a_union(db: DB) -> None:
    """They are read as without the union, whatever follows it: missing keys as defaults, lists as rows."""
    one = select(Pet.name, owners)
    expected = [("Rex", ["Ann"]), ("Rex", ["Ann"]), ("Tom", ["Ann"]), ("Tom", ["Ann"]), ("nobody", ["Bob"])]
    assert [*expected, expected[-1]] == sorted(rows(db, one.union_all(one)))
    assert [*expected, expected[-1]] == sorted(rows(db, one.union_all(one).order_by(Pet.name)))


def test_totals_in_unions(db: DB) -> None:
    """Accumulators over nothing have a row there too."""
    none = select(func.count(Pet)).where(Pet.id < 0)
    assert [(3,), (0,)] == rows(db, select(func.count(Pet)).union_all(none))
    assert [(0,), (3,)] == rows(db, none.union_all(select(func.count(Pet))))


def test_totals_of_nothing(db: DB) -> None:
    """Each accumulator gives what its type says; a facet refuses what would have to be computed of them."""
    none = select(func.first_n(2, Pet.id), func.merge_objects(Pet.face), func.max(Pet.age)).where(Pet.id < 0)
    assert [([], {}, None)] == rows(db, none)
    assert [([], {}, None)] == rows(db, none.then())
    count = func.count().label("n")
    assert [([0],)] == rows(db, select(Pet).where(Pet.id < 0).facet(n=select(count)))
    with pytest.raises(UnsupportedError, match="selected alone"):
        select(Pet).facet(n=select((func.count() + 1).label("n"))).pipeline()


def test_elements_beside_whole_documents(db: DB) -> None:
    """An element by its position is what it is, not the list, whatever stands beside it."""
    first = {key: toys[0] if toys else None for key, toys in TOYS.items()}
    assert of_pets(first, TOYS) == rows(db, select(Pet.toys[0], Pet.toys).order_by(Pet.id))
    found = rows(db, select(Pet, Pet.toys[0]).order_by(Pet.id))
    assert of_pets(TOYS, first) == [(pet.toys, toy) for pet, toy in found]


def test_load_only_beside_a_part_of_it(db: DB) -> None:
    """The server does not take a path and one below it at once."""
    found = rows(db, select(Pet, Pet.face[Face.eyes]).options(load_only(Pet.face)).order_by(Pet.id))
    assert of_pets(EYES, EYES) == [(pet.face and pet.face.eyes, eyes) for pet, eyes in found]


def test_distinct_rows_of_groups(db: DB) -> None:
    """Where the keys of the groups are not all selected, what is left may repeat."""
    statement = select(func.count(), Pet.owner).group_by(Pet.owner, Pet.age).distinct()
    assert [(1, 1), (1, 2)] == sorted(rows(db, statement))


def test_unwound_lists_of_lookups(db: DB) -> None:
    """An item is what the list held: a value, or a document."""
    whole = select(Owner).where(Owner.id == Pet.owner).as_list().label("owner")
    assert [(1, "Ann"), (2, "Ann"), (3, "Bob")] == rows(db, select(Pet.id, owners).unwind(owners).order_by(Pet.id))
    found = rows(db, select(Pet.id, whole).unwind(whole).order_by(Pet.id))
    assert [(1, "Ann"), (2, "Ann"), (3, "Bob")] == [(key, owner.name) for key, owner in found]


def test_whole_documents_of_a_join_whose_list_was_unwound() -> None:
    """They are not whole any more; those of the other class are."""
    joined = select(Pet.id).join(Owner, Pet.owner == Owner.id)
    with pytest.raises(StatementError, match="Owner: its documents are not whole"):
        joined.unwind(Owner.tags).columns(Owner).pipeline()
    with pytest.raises(StatementError, match="Pet: its documents are not whole"):
        joined.unwind(Pet.toys).columns(Pet).pipeline()
    joined.unwind(Owner.tags).columns(Pet, Owner.tags.item()).pipeline()


def test_outer_fields_in_a_list(db: DB) -> None:
    """A list of rows may hold the outer row's fields, and be sorted by what is computed of them."""
    rest = (Owner.id - Pet.age).label("rest")
    inner = select(Owner.name, Pet.age, rest).where(Owner.id <= Pet.owner).order_by(Pet.id, rest.desc())
    found = rows(db, select(Pet.id, inner.as_list().label("them")).order_by(Pet.id))
    expected = [
        (
            pet["_id"],
            [(name, pet["age"], key - pet["age"]) for key, name, _ in reversed(OWNERS) if key <= pet["owner"]],
        )
        for pet in PETS
    ]
    assert expected == [(key, list(map(tuple, them))) for key, them in found]


def test_unwound_rows(db: DB) -> None:
    """A row of a list of rows stays a row: of a lookup, with none where the list is empty, and of a facet."""
    both = select(Owner.id, Owner.name).where(Owner.id == Pet.owner, Owner.id > 1).as_list().label("them")
    found = rows(db, select(Pet.id, both).unwind(both, keep_empty=True).order_by(Pet.id))
    assert [(1, None), (2, None), (3, (2, "Bob"))] == found
    assert "Bob" == found[2][1].name
    facets = select(Pet).facet(a=select(Pet.id, Pet.age).order_by(Pet.id), b=select(Pet.name).order_by(Pet.id))
    assert [((key, age),) for key, age in AGE.items()] == rows(db, facets.columns(column("a")).unwind(column("a")))
    assert [("Rex",), ("Tom",), ("nobody",)] == rows(db, facets.columns(column("b")).unwind(column("b")))


def test_items_of_a_list_that_was_not_unwound() -> None:
    """Another one being unwound does not help."""
    with pytest.raises(StatementError, match=r"Owner.tags.item\(\): an item is what stands in a row after unwind"):
        select(Pet.id, Owner.tags.item()).join(Owner, Pet.owner == Owner.id).unwind(Pet.toys).pipeline()


def test_merged_lists(db: DB) -> None:
    """A list of the values of one column is merged as that, one of rows as documents."""
    both = select(Owner.id, Owner.name).where(Owner.id == Pet.owner).as_list().label("both")
    with Session(db) as session:
        session.execute(select(Pet.id, owners, both).merge_into("merged"))
    collection = db.parts.data_backend.client[db.parts.data_backend.name]["merged"]
    names = {key: name for key, name, _ in OWNERS}
    expected = [
        {
            "_id": pet["_id"],
            "owners": [names[pet["owner"]]],
            "both": [{"_id": pet["owner"], "name": names[pet["owner"]]}],
        }
        for pet in PETS
    ]
    assert expected == sorted(collection.find(), key=lambda one: one["_id"])
