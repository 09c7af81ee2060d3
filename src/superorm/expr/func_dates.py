"""Functions of dates."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, TypeAlias, overload

from typing_extensions import TypeVar

from superorm.expr.base import Expr
from superorm.expr.calls import called
from superorm.expr.func_rows import given
from superorm.expr.rows import Unit

__all__ = ["DateFunctions"]

M = TypeVar("M")

Moment: TypeAlias = "Expr[M, datetime | date]"
MaybeMoment: TypeAlias = "Expr[M, datetime | date | None]"
Zone: TypeAlias = "str | Expr[Any, str] | None"


class DateFunctions:
    """Of dates in UTC, or in a time zone such as "Europe/Berlin" or "+02:00"; of null they give null."""

    @overload
    def year(self, date: Moment[M], timezone: Zone = None) -> Expr[M, int]: ...
    @overload
    def year(self, date: MaybeMoment[M], timezone: Zone = None) -> Expr[M, int | None]: ...
    def year(self, date: Any, timezone: Any = None) -> Any:
        """The year."""
        return called("year", date, **given(timezone=timezone))

    @overload
    def month(self, date: Moment[M], timezone: Zone = None) -> Expr[M, int]: ...
    @overload
    def month(self, date: MaybeMoment[M], timezone: Zone = None) -> Expr[M, int | None]: ...
    def month(self, date: Any, timezone: Any = None) -> Any:
        """The month, from 1."""
        return called("month", date, **given(timezone=timezone))

    @overload
    def day_of_month(self, date: Moment[M], timezone: Zone = None) -> Expr[M, int]: ...
    @overload
    def day_of_month(self, date: MaybeMoment[M], timezone: Zone = None) -> Expr[M, int | None]: ...
    def day_of_month(self, date: Any, timezone: Any = None) -> Any:
        """The day of the month, from 1."""
        return called("day_of_month", date, **given(timezone=timezone))

    @overload
    def hour(self, date: Moment[M], timezone: Zone = None) -> Expr[M, int]: ...
    @overload
    def hour(self, date: MaybeMoment[M], timezone: Zone = None) -> Expr[M, int | None]: ...
    def hour(self, date: Any, timezone: Any = None) -> Any:
        """The hour, from 0."""
        return called("hour", date, **given(timezone=timezone))

    @overload
    def date_trunc(
        self,
        date: Moment[M],
        unit: Unit | Expr[Any, str],
        *,
        bin_size: int | Expr[Any, int] | None = None,
        timezone: Zone = None,
        start_of_week: str | None = None,
    ) -> Expr[M, datetime]: ...
    @overload
    def date_trunc(
        self,
        date: MaybeMoment[M],
        unit: Unit | Expr[Any, str],
        *,
        bin_size: int | Expr[Any, int] | None = None,
        timezone: Zone = None,
        start_of_week: str | None = None,
    ) -> Expr[M, datetime | None]: ...
    def date_trunc(
        self, date: Any, unit: Any, *, bin_size: Any = None, timezone: Any = None, start_of_week: Any = None
    ) -> Any:
        """The beginning of the unit, or of `bin_size` units, that the date is in."""
        options = given(bin_size=bin_size, timezone=timezone, start_of_week=start_of_week)
        return called("date_trunc", date, unit, **options)

    @overload
    def date_add(
        self, start_date: Moment[M], unit: Unit | Expr[Any, str], amount: int | Expr[Any, int], timezone: Zone = None
    ) -> Expr[M, datetime]: ...
    @overload
    def date_add(
        self,
        start_date: MaybeMoment[M],
        unit: Unit | Expr[Any, str],
        amount: int | Expr[Any, int],
        timezone: Zone = None,
    ) -> Expr[M, datetime | None]: ...
    def date_add(self, start_date: Any, unit: Any, amount: Any, timezone: Any = None) -> Any:
        """So many units later."""
        return called("date_add", start_date, unit, amount, **given(timezone=timezone))

    @overload
    def date_subtract(
        self, start_date: Moment[M], unit: Unit | Expr[Any, str], amount: int | Expr[Any, int], timezone: Zone = None
    ) -> Expr[M, datetime]: ...
    @overload
    def date_subtract(
        self,
        start_date: MaybeMoment[M],
        unit: Unit | Expr[Any, str],
        amount: int | Expr[Any, int],
        timezone: Zone = None,
    ) -> Expr[M, datetime | None]: ...
    def date_subtract(self, start_date: Any, unit: Any, amount: Any, timezone: Any = None) -> Any:
        """So many units earlier."""
        return called("date_subtract", start_date, unit, amount, **given(timezone=timezone))

    @overload
    def date_diff(
        self,
        start_date: Moment[M],
        end_date: Moment[Any] | datetime,
        unit: Unit | Expr[Any, str],
        *,
        timezone: Zone = None,
        start_of_week: str | None = None,
    ) -> Expr[M, int]: ...
    @overload
    def date_diff(
        self,
        start_date: MaybeMoment[M],
        end_date: MaybeMoment[Any] | datetime,
        unit: Unit | Expr[Any, str],
        *,
        timezone: Zone = None,
        start_of_week: str | None = None,
    ) -> Expr[M, int | None]: ...
    def date_diff(
        self, start_date: Any, end_date: Any, unit: Any, *, timezone: Any = None, start_of_week: Any = None
    ) -> Any:
        """How many beginnings of the unit lie between two dates."""
        options = given(timezone=timezone, start_of_week=start_of_week)
        return called("date_diff", start_date, end_date, unit, **options)

    @overload
    def date_to_string(
        self, date: Moment[M], format: str | Expr[Any, str] | None = None, timezone: Zone = None, on_null: Any = None
    ) -> Expr[M, str]: ...
    @overload
    def date_to_string(
        self,
        date: MaybeMoment[M],
        format: str | Expr[Any, str] | None = None,
        timezone: Zone = None,
        on_null: Any = None,
    ) -> Expr[M, str | None]: ...
    def date_to_string(self, date: Any, format: Any = None, timezone: Any = None, on_null: Any = None) -> Any:
        """A date as text, ``"%Y-%m-%d"``."""
        return called("date_to_string", date, **given(format=format, timezone=timezone, on_null=on_null))
