"""Selects: what they are from, and what their rows are."""

from __future__ import annotations

from typing import Any, TypeAlias, assert_type

from superorm import (
    Expr,
    Field,
    Select,
    aliased,
    case,
    column,
    func,
    graph_lookup,
    load_only,
    score,
    select,
    utcnow,
    window,
)
from tests.typing.classes import (
    Album,
    Cover,
    Film,
    Imdb,
    Movie,
    Person,
    Product,
    Review,
    Role,
    Sketch,
    Solid,
    Stamped,
)

films = func.count().label("films")

Many: TypeAlias = tuple[Any, Any, Any, *tuple[Any, ...]]


def selected() -> None:
    """Rows are typed by position."""
    assert_type(select(Movie), Select[Movie, tuple[Movie]])
    assert_type(select(Film).where(Movie.year > 1, Film.reels > 1, Film.version == 1), Select[Film, tuple[Film]])
    assert_type(select(Movie.title), Select[Movie, tuple[str]])
    assert_type(select(Movie.title, Movie.length), Select[Movie, tuple[str, float | None]])
    assert_type(select(Movie.title, Movie.year, Movie.plot), Select[Movie, tuple[str, int, str]])
    four = select(Movie.title, Movie.year, Movie.plot, Movie.genres)
    assert_type(four, Select[Movie, tuple[str, int, str, list[str]]])
    five = select(Movie.title, Movie.year, Movie.plot, Movie.genres, Movie.mood)
    assert_type(five, Select[Movie, Many])
    assert_type(select(Movie, score()), Select[Movie, tuple[Movie, float]])
    assert_type(select(Movie.title, score()), Select[Movie, tuple[str, float]])
    assert_type(select(Movie, Movie.title, score()), Select[Movie, tuple[Movie, str, float]])
    assert_type(select(Movie, Person), Select[Any, tuple[Movie, Person]])
    assert_type(select(Movie, Person, Person.name), Select[Any, Many])
    assert_type(select(Movie, Movie.title, Movie.year, score()), Select[Movie, tuple[Movie, str, int, float]])
    assert_type(select(Movie, Movie.title, Movie.year, Movie.plot, score()), Select[Movie, Many])
    assert_type(select(Movie.imdb[Imdb.rating], Movie.genres[0]), Select[Movie, tuple[float, str | None]])
    assert_type(select(Movie.imdb.rating), Select[Movie, tuple[Any]])
    assert_type(select(Movie.title, (Movie.year + 1).label("next")), Select[Movie, tuple[str, int]])
    age = case((Movie.year < 1930, "silent"), else_="sound").label("age")
    assert_type(select(Movie.title, age), Select[Movie, tuple[str, str]])


def members() -> None:
    """Of a field of one class of a union or a hierarchy nothing is known: it may be None as well."""
    assert_type(Sketch.shape.radius, Field[Sketch, Any])
    assert_type(select(Sketch.shape.radius), Select[Sketch, tuple[Any]])
    assert_type(select(Sketch.solid.depth, Sketch.solid.radius), Select[Sketch, tuple[Any, Any]])
    assert_type(select(Sketch.solid[Solid.depth]), Select[Sketch, tuple[float]])


def blocks() -> None:
    """The slots of a block keep what the statement is from and what its rows are."""
    whole = (
        select(Movie)
        .where(Movie.year >= 1990, Movie.genres.contains("Comedy"), Stamped.added < utcnow(), Movie.imdb.rating > 7)
        .like("a heist that goes wrong", on=Movie.embedding, k=10, exact=True, num_candidates=100, min_score=0.5)
        .where(Movie.title != "")
        .order_by(Movie.year.desc(), Movie.title, Movie.plot.asc())
        .offset(1)
        .limit(5)
    )
    assert_type(whole, Select[Movie, tuple[Movie]])
    assert_type(whole.pipeline(), list[dict[str, Any]])
    assert_type(str(whole), str)
    assert_type(select(Movie).like([0.5] * 384).order_by(score().desc()), Select[Movie, tuple[Movie]])
    assert_type(select(Album).like([0.5] * 3, on=Album.cover.embedding), Select[Album, tuple[Album]])
    assert_type(select(Album).like([0.5] * 3, on=Album.cover[Cover.embedding]), Select[Album, tuple[Album]])
    assert_type(select(Movie).sample(5).where(Movie.year > 1), Select[Movie, tuple[Movie]])
    assert_type(select(Movie).stage({"$unset": "plot"}).where(column("more") > 5), Select[Movie, tuple[Movie]])
    assert_type(select(Movie).options(load_only(Movie.title, Movie.year)), Select[Movie, tuple[Movie]])
    assert_type(select(Film).options(load_only(Film.title), load_only(Film.reels)), Select[Film, tuple[Film]])
    assert_type(select(Movie).order_by(Movie.genres.size().desc(), Movie.year % 10), Select[Movie, tuple[Movie]])
    assert_type(select(Movie).then().where(Movie.year > 1), Select[Movie, tuple[Movie]])
    assert_type(select(Movie.year).distinct(), Select[Movie, tuple[int]])


def groups() -> None:
    """Groups yield keys and accumulators."""
    by_year = select(Movie.year, films).group_by(Movie.year)
    assert_type(by_year, Select[Movie, tuple[int, int]])
    assert_type(by_year.having(films > 1, Movie.year < 2000).order_by(films.desc()), Select[Movie, tuple[int, int]])
    mean = func.avg(Movie.imdb[Imdb.rating]).label("mean")
    two = select(Movie.year, Movie.mood, mean).group_by(Movie.year, Movie.mood)
    assert two is not None
    decade = (Movie.year - Movie.year % 10).label("decade")
    assert_type(select(decade, films).group_by(decade), Select[Movie, tuple[int, int]])
    assert_type(by_year.then(func.avg(films)), Select[Movie, tuple[float | None]])
    assert_type(by_year.then(Movie.year, films), Select[Movie, tuple[int, int]])
    assert_type(select(func.count()).select_from(Movie), Select[Movie, tuple[int]])
    assert_type(select(func.count(Movie)), Select[Movie, tuple[int]])
    ranges = func.bucket(Movie.year, boundaries=[1900, 1950], default="later")
    assert_type(select(ranges, films).group_by(ranges), Select[Movie, tuple[Any, int]])
    equal = func.bucket_auto(Movie.year, buckets=3, granularity="R5")
    assert_type(select(equal, films).group_by(equal), Select[Movie, tuple[Any, int]])


def lists() -> None:
    """After `unwind`, items stand for lists."""
    genres = select(Movie.genres.item(), films).unwind(Movie.genres).group_by(Movie.genres.item())
    assert_type(genres, Select[Movie, tuple[str, int]])
    roles = select(Movie.title, Movie.cast.item()[Role.name], column("at")).unwind(
        Movie.cast, keep_empty=True, index="at"
    )
    assert_type(roles, Select[Movie, tuple[str, str | None, Any]])
    select(Movie).unwind(Movie.tags).unwind(Movie.genres)
    select(Product).unwind(Product.labels).where(Product.labels.item() == "x")


def joins() -> None:
    """After a join, fields of any class are taken."""
    joined = select(Movie).join(Review, Review.movie_id == Movie.id, Review.stars > 3, outer=True)
    assert_type(joined, Select[Any, tuple[Movie]])
    assert_type(joined.where(Review.stars > 3, Movie.year > 1).order_by(Review.at), Select[Any, tuple[Movie]])
    assert_type(joined.columns(Movie.title, Review.stars), Select[Any, tuple[str, int]])
    assert_type(joined.columns(Movie, Review), Select[Any, tuple[Movie, Review]])
    assert_type(joined.columns(Movie, Review.stars), Select[Any, tuple[Movie, int]])
    assert_type(joined.columns(Movie), Select[Any, tuple[Movie]])
    assert_type(joined.columns(Review.text), Select[Any, tuple[str]])
    assert_type(joined.where((Movie.year > 1) | (Review.stars > 3)), Select[Any, tuple[Movie]])
    three = joined.columns(Movie.title, Review.stars, Review.text)
    assert_type(three, Select[Any, tuple[str, int, str]])
    assert_type(joined.columns(Movie, Review, Review.text), Select[Any, Many])
    both = select(Movie, Review).join(Review, Review.movie_id == Movie.id)
    assert_type(both, Select[Any, tuple[Movie, Review]])
    assert_type(both.join(Person, Person.movie == Movie.id), Select[Any, tuple[Movie, Review]])
    parent = aliased(Product, "parent")
    with_parent = select(Product, parent).join(parent, Product.parent == parent.id)
    assert_type(with_parent, Select[Any, tuple[Product, Product]])
    assert_type(select(Movie.title).columns(Movie.year, Movie.plot), Select[Movie, tuple[int, str]])


def outer_joins(flag: bool = True) -> None:
    """What an outer join need not find may be None; of three columns and more no types are known."""
    condition, another = Review.movie_id == Movie.id, Person.movie == Movie.id
    both = select(Movie, Review)
    outer = both.join(Review, condition, outer=True)
    assert_type(outer, Select[Any, tuple[Movie, Review | None]])
    assert_type(outer.where(Review.stars > 3).order_by(Movie.year), Select[Any, tuple[Movie, Review | None]])
    assert_type(outer.join(Person, another), Select[Any, tuple[Movie, Review | None]])
    assert_type(outer.join(Person, another, outer=True), Select[Any, tuple[Movie, Review | None]])
    assert_type(both.join(Review, condition, outer=False), Select[Any, tuple[Movie, Review]])
    inner = both.join(Review, condition)
    assert_type(inner.join(Person, another, outer=True), Select[Any, tuple[Movie, Review]])
    assert_type(select(Movie).join(Review, condition, outer=flag), Select[Any, tuple[Movie]])
    title = select(Movie.title, Movie.year).join(Review, condition, outer=True)
    assert_type(title, Select[Any, tuple[str, int]])
    three = select(Movie, Review, Person).join(Review, condition).join(Person, another, outer=True)
    assert_type(three, Select[Any, Many])
    parent = aliased(Product, "parent")
    with_parent = select(Product, parent).join(parent, Product.parent == parent.id, outer=True)
    assert_type(with_parent, Select[Any, tuple[Product, Product | None]])


def lists_of_others() -> None:
    """What another statement finds, as a list in each row."""
    texts = select(Review.text).where(Review.movie_id == Movie.id).as_list()
    assert_type(texts, Expr[object, list[str]])
    assert_type(select(Movie, texts.label("texts")), Select[Movie, tuple[Movie, list[str]]])
    whole = select(Review).where(Review.movie_id == Movie.id).as_list().label("reviews")
    assert_type(select(Movie.title, whole), Select[Movie, tuple[str, list[Review]]])
    pairs = select(Review.text, Review.stars).where(Review.movie_id == Movie.id).as_list()
    assert_type(pairs, Expr[object, list[tuple[str, int]]])
    ancestors = graph_lookup(
        Product,
        start_with=Product.parent,
        connect_from=Product.parent,
        connect_to=Product.id,
        max_depth=3,
        depth_field="steps",
        where=Product.stock > 0,
    )
    assert_type(ancestors, Expr[Product, list[dict[str, Any]]])
    assert_type(select(Product.id, ancestors), Select[Product, tuple[int, list[dict[str, Any]]]])


def windows() -> None:
    """A window keeps the type of what is computed over it."""
    total = window(
        func.sum(Movie.year), partition_by=Movie.mood, order_by=Movie.added, documents=("unbounded", "current")
    )
    assert_type(total, Expr[Movie, int])
    month = window(func.avg(Movie.length), order_by=[Movie.added], range=(-1, "current"), unit="month")
    assert_type(month, Expr[Movie, float | None])
    rank = window(func.rank(), partition_by=[Movie.mood, Movie.size], order_by=Movie.year.desc()).label("rank")
    best = select(Movie.title, rank).then().where(rank <= 3)
    assert_type(best, Select[Movie, tuple[str, int]])
    before = window(func.shift(Movie.title, -1), order_by=Movie.year)
    assert_type(before, Expr[Movie, str | None])
    share = Movie.year / window(func.sum(Movie.year))
    assert_type(share, Expr[Movie, float])


def several() -> None:
    """Unions and facets."""
    names = select(Movie.title).union_all(select(Person.name)).order_by(Movie.title)
    assert_type(names, Select[Movie, tuple[str]])
    assert_type(select(Movie).union_all(select(Movie).where(Movie.year > 1)), Select[Movie, tuple[Movie]])
    assert_type(select(Movie.length).union_all(select(Review.stars)), Select[Movie, tuple[float | None]])
    facets = select(Movie).facet(years=select(Movie.year, films).group_by(Movie.year), last=select(Movie.title))
    assert_type(facets, Select[Any, tuple[Any, ...]])


def stored() -> None:
    """Statements become data and come back."""
    data = select(Movie).to_dict()
    assert_type(data, dict[str, Any])
    again = Select.from_dict(data)
    assert_type(again, Select[Any, Any])
    assert_type(again.where(Movie.year < 2000).limit(3), Select[Any, Any])
    assert_type(again.pipeline(), list[dict[str, Any]])
    assert_type(Select.from_dict(data, registry=None, allow_raw=False), Select[Any, Any])
