"""From a query to SQL, by SQLAlchemy Core, for any database: one statement for each combination of terms, kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Dialect,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from storage.dicom.attributes import Attribute, Home
from storage.dicom.level import Level
from storage.dicom.query import Query
from storage.index.schema import instances, sealed_uids, series, series_values, studies, study_names, study_values
from storage.index.session import Prepared, constant, prepared
from storage.index.terms import (
    OnAll,
    OnAny,
    OnColumn,
    OnDateAlone,
    OnMoment,
    OnNames,
    OnNothing,
    OnUids,
    OnValues,
    Term,
    Test,
    ValueTest,
    terms,
)

Names = Iterator[BindParameter[Any]]
KEPT_STATEMENTS = 512
_NO_NUMBER = (1 << 63) - 1  # comes after every SeriesNumber, which has 18 digits at most
_TABLES = {Level.STUDY: studies, Level.SERIES: series}
_ORDER: tuple[ColumnElement[Any], ...] = (
    studies.c.study_date.desc(),
    studies.c.study_time.desc(),
    studies.c.study_uid,
    series.c.series_number.asc().nulls_last(),
    series.c.series_uid,
)
_ORDER_LENGTH = {Level.STUDY: 3, Level.SERIES: 5}
_STUDY_COLUMNS = (
    studies.c.attributes,
    studies.c.series_count,
    studies.c.instance_count,
    studies.c.modalities,
    studies.c.sop_classes,
)
COLUMNS: dict[Level, tuple[ColumnElement[Any], ...]] = {
    Level.STUDY: _STUDY_COLUMNS,
    Level.SERIES: (*_STUDY_COLUMNS, series.c.attributes, series.c.instance_count),
}
# Of a series on the way through them: its place in the order, then what finding its instances needs.
_PLACE = (
    studies.c.study_date,
    studies.c.study_time,
    studies.c.study_uid,
    func.coalesce(series.c.series_number, constant(_NO_NUMBER)),
    series.c.series_uid,
)
_STEP = (*_PLACE, studies.c.id, series.c.id, series.c.instance_count, series.c.loose_count, series.c.pack_count)
PLACE_NAMES = ("after_date", "after_time", "after_study", "after_number", "after_series")


@dataclass(frozen=True)
class Flavour:
    """What is not the same in all databases.

    `like` is the operator that applies a pattern, `pattern` writes one. `unindexed` wraps a column so that no index
    on it is used, where the planner would else go from the many instances up to their studies. `among` tests for any
    of a list that is one parameter, written by `listed`: lists of all lengths are one statement. `apart` keeps a test
    of each row a test of each row, where the planner would else begin with all that pass it, which may be millions.
    """

    dialect: Dialect
    like: str
    pattern: Callable[[str], str]
    unindexed: Callable[[ColumnElement[Any]], ColumnElement[Any]]
    among: Callable[[ColumnElement[Any], BindParameter[Any]], ColumnElement[bool]]
    listed: Callable[[tuple[str, ...] | tuple[int, ...]], object]
    apart: "Callable[[Select[Any]], Select[Any]]"


class Shape(NamedTuple):
    """Everything of a search but its values."""

    level: Level
    in_study: bool
    in_series: bool
    terms: tuple[Term, ...]


class Search(NamedTuple):
    """The SQL of a search: `rows` takes limit and offset, `counting` takes bound, both take `values`."""

    rows: Prepared
    counting: Prepared
    values: dict[str, object]


class Steps(NamedTuple):
    """The SQL of a way through series: both take limit and `values`, `following` takes PLACE_NAMES as well."""

    first: Prepared
    following: Prepared
    values: dict[str, object]


def search(query: Query, flavour: Flavour) -> Search:
    """The statements for a `query` of studies or series. Raises Invalid (QUERY) for keys that cannot be matched."""
    shape, values = _shape(query, query.level, flavour)
    return Search(*_searching(shape, flavour), values)


def steps(query: Query, flavour: Flavour) -> Steps:
    """The statements for the series that may have instances for `query`, in the order of results. Raises Invalid."""
    shape, values = _shape(query, Level.SERIES, flavour)
    return Steps(*_stepping(shape, flavour), values)


def _shape(query: Query, level: Level, flavour: Flavour) -> tuple[Shape, dict[str, object]]:
    found, values = terms(query, flavour.pattern)
    named: dict[str, object] = {
        f"p{number}": flavour.listed(value) if isinstance(value, tuple) else value
        for number, value in enumerate(values)
    }
    if query.study_uid is not None:
        named["study_uid"] = query.study_uid
    if query.series_uid is not None:
        named["series_uid"] = query.series_uid
    return Shape(level, query.study_uid is not None, query.series_uid is not None, found), named


@lru_cache(maxsize=KEPT_STATEMENTS)
def _searching(shape: Shape, flavour: Flavour) -> tuple[Prepared, Prepared]:
    rows = _filtered(select(*COLUMNS[shape.level]), shape, flavour).order_by(*_ORDER[: _ORDER_LENGTH[shape.level]])
    rows = rows.limit(bindparam("limit", type_=BigInteger)).offset(bindparam("offset", type_=BigInteger))
    bounded = _filtered(select(constant(1).label("one")), shape, flavour)
    bounded = bounded.limit(bindparam("bound", type_=BigInteger)).offset(constant(0))
    count = select(func.count()).select_from(bounded.subquery())
    return prepared(rows, flavour.dialect), prepared(count, flavour.dialect)


@lru_cache(maxsize=KEPT_STATEMENTS)
def _stepping(shape: Shape, flavour: Flavour) -> tuple[Prepared, Prepared]:
    first = _filtered(select(*_STEP), shape, flavour).order_by(*_ORDER)
    first = first.limit(bindparam("limit", type_=BigInteger)).offset(constant(0))
    return prepared(first, flavour.dialect), prepared(first.where(_after_place()), flavour.dialect)


def _after_place() -> ColumnElement[bool]:
    """Series that come after one; the condition on the date alone is there because an index can serve it."""
    date, time, study, number, one_series = _PLACE
    names: Names = map(bindparam, PLACE_NAMES)
    at_date, at_time, at_study, at_number, at_series = names
    return and_(
        date <= at_date,
        or_(
            date < at_date,
            time < at_time,
            and_(time == at_time, study > at_study),
            and_(study == at_study, number > at_number),
            and_(study == at_study, number == at_number, one_series > at_series),
        ),
    )


def _filtered(statement: "Select[Any]", shape: Shape, flavour: Flavour) -> "Select[Any]":
    statement = statement.select_from(_joined(shape, flavour))
    names: Names = (bindparam(f"p{number}") for number in range(1 << 20))
    conditions = [_condition(term, names, flavour) for term in shape.terms]
    if shape.in_study:
        conditions.append(studies.c.study_uid == bindparam("study_uid"))
    if shape.in_series:
        conditions.append(series.c.series_uid == bindparam("series_uid"))
    return statement.where(*conditions)


def _joined(shape: Shape, flavour: Flavour) -> Any:
    """The tables of the level: from the studies down in their order, unless a key names few below them."""
    upward = any(_names_few(term) for term in shape.terms)
    joined: Any = studies
    if shape.level >= Level.SERIES:
        joined = joined.join(series, series.c.study_id == (studies.c.id if upward else flavour.unindexed(studies.c.id)))
    return joined


def _names_few(term: Term) -> bool:
    """Whether few series in all the archive pass this term."""
    if isinstance(term, OnColumn):
        return term.attribute.column == "series_uid"
    if isinstance(term, OnUids):
        return True
    if isinstance(term, OnAny):
        return all(map(_names_few, term.terms))
    return isinstance(term, OnValues) and term.selective and term.level is Level.SERIES


def _condition(term: Term, names: Names, flavour: Flavour) -> ColumnElement[bool]:
    match term:
        case OnColumn(attribute, tests):
            return _any_test(_TABLES[attribute.level].c[attribute.column], tests, names, flavour)
        case OnMoment(date, time):
            table = _TABLES[date.level]
            return _in_interval(table.c[date.column], table.c[time.column], names)
        case OnDateAlone(date, time):
            table = _TABLES[date.level]
            between = and_(table.c[date.column] >= next(names), table.c[date.column] <= next(names))
            return and_(table.c[time.column] == constant(""), between)
        case OnNothing(attribute):
            return _has_nothing(attribute, flavour)
        case OnValues():
            return _has_values(term, names, flavour)
        case OnNames():
            token = study_names.c.token
            named = select(study_names.c.study_id).where(token >= next(names), token < next(names))
            return studies.c.id.in_(named)
        case OnUids():
            return _has_one_of(names, flavour)
        case OnAny(alternatives):
            return or_(*[_condition(each, names, flavour) for each in alternatives])
        case OnAll(together):
            return and_(*[_condition(each, names, flavour) for each in together])


def _any_test(
    column: ColumnElement[Any], tests: tuple[Test, ...], names: Names, flavour: Flavour
) -> ColumnElement[bool]:
    return or_(*[_tested(column, test, names, flavour) for test in tests])


def _tested(column: ColumnElement[Any], test: Test, names: Names, flavour: Flavour) -> ColumnElement[bool]:
    value = next(names)
    match test:
        case Test.EQUAL:
            return column == value
        case Test.AMONG:
            return flavour.among(column, value)
        case Test.BETWEEN:
            return and_(column >= value, column <= next(names))
        case Test.LIKE:
            return column.bool_op(flavour.like)(value)
        case Test.LIKE_FROM:
            like = column.bool_op(flavour.like)(value)
            return and_(column >= next(names), column < next(names), like)


def _in_interval(date: ColumnElement[Any], time: ColumnElement[Any], names: Names) -> ColumnElement[bool]:
    """Date and time as one; the date alone too, because an index can serve that."""
    from_date, from_time, to_date, to_time = (next(names) for _ in range(4))
    return and_(
        date >= from_date,
        date <= to_date,
        time != constant(""),
        tuple_(date, time) >= tuple_(from_date, from_time),
        tuple_(date, time) <= tuple_(to_date, to_time),
    )


def _has_one_of(names: Names, flavour: Flavour) -> ColumnElement[bool]:
    """Series with a loose instance of one list, or a sealed one of another."""
    loose = select(instances.c.study_id, instances.c.series_id).where(flavour.among(instances.c.sop_uid, next(names)))
    sealed = select(sealed_uids.c.study_id, sealed_uids.c.series_id)
    sealed = sealed.where(flavour.among(sealed_uids.c.uid_hash, next(names)))
    either = loose.union_all(sealed).subquery()  # SQLite would look at every series for a union that is not inside
    return tuple_(series.c.study_id, series.c.id).in_(select(either.c.study_id, either.c.series_id))


def _has_values(term: OnValues, names: Names, flavour: Flavour) -> ColumnElement[bool]:
    """Rows of values, one for each test, of the same entity and item."""
    table, owner = (study_values, "study_id") if term.level is Level.STUDY else (series_values, "series_id")
    owners = ("study_id", "series_id")[: term.level]
    rows = [table.alias() for _ in term.tests]
    conditions: list[ColumnElement[bool]] = []
    for row, test in zip(rows, term.tests, strict=True):
        conditions += _row_conditions(row, test, names, flavour)
        if row is not rows[0]:
            conditions += [row.c[name] == rows[0].c[name] for name in (*owners, "item")]
    entity = _TABLES[term.level].c.id
    if term.selective and term.level is Level.SERIES:
        named = select(rows[0].c.study_id, rows[0].c.series_id).where(*conditions)
        return tuple_(series.c.study_id, series.c.id).in_(named)
    if term.selective:
        return entity.in_(select(rows[0].c[owner]).where(*conditions))
    if term.level is Level.SERIES:
        conditions.append(rows[0].c.study_id == series.c.study_id)
    return flavour.apart(select(constant(1)).where(rows[0].c[owner] == entity, *conditions)).exists()


def _has_nothing(attribute: Attribute, flavour: Flavour) -> ColumnElement[bool]:
    """No value that could be compared: an empty column, or no row of values."""
    if attribute.home is Home.COLUMN:
        column = _TABLES[attribute.level].c[attribute.column]
        return column.is_(None) if attribute.vr == "IS" else column == constant("")
    if attribute.level is Level.STUDY:
        table, found = study_values, select(constant(1)).where(study_values.c.study_id == studies.c.id)
    else:
        table, found = series_values, select(constant(1)).where(series_values.c.study_id == series.c.study_id)
        found = found.where(series_values.c.series_id == series.c.id)
    return ~flavour.apart(found.where(table.c.path == constant(".".join(attribute.path)))).exists()


def _row_conditions(row: Any, test: ValueTest, names: Names, flavour: Flavour) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [row.c.path == constant(test.path)]
    if test.part is not None:
        conditions.append(row.c.part == constant(test.part))
    # An entity has few values and the list may be long: look at the values rather than for each of the list.
    value = flavour.unindexed(row.c.value) if Test.AMONG in test.tests else row.c.value
    return [*conditions, _any_test(value, test.tests, names, flavour)]
