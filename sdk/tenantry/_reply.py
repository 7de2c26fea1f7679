"""Answers that are no errors, and reading models out of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError

from tenantry.errors import UnexpectedResponse

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Reply:
    """A successful answer: what was said, and how.

    Attributes:
        data: The decoded JSON, numbers exact (int or Decimal); None for an empty body.
        status: HTTP status, 200 to 299.
        headers: Names in lower case.
        request_id: The server's id of the request.
        retries: Attempts before this one; an earlier one may have been applied.
    """

    data: Any
    status: int
    headers: Mapping[str, str]
    request_id: str
    retries: int = 0

    @property
    def count(self) -> int | None:
        """The total of a query that asked for `count`, from Content-Range; None otherwise."""
        _, slash, total = self.headers.get("content-range", "").rpartition("/")
        return int(total) if slash and total.isascii() and total.isdigit() else None

    def one(self, model: type[Model]) -> Model:
        """The body as one row. Raises UnexpectedResponse."""
        try:
            return model.model_validate(self.data)
        except PydanticValidationError as error:
            raise self._unreadable(model, error) from error

    def many(self, model: type[Model]) -> list[Model]:
        """The body as rows. Raises UnexpectedResponse."""
        if not isinstance(self.data, list):
            raise self.unexpected(f"a list of {model.__name__} was expected")
        try:
            return [model.model_validate(row) for row in self.data]
        except PydanticValidationError as error:
            raise self._unreadable(model, error) from error

    def _unreadable(
        self, model: type[BaseModel], error: PydanticValidationError
    ) -> UnexpectedResponse:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        return self.unexpected(f"{model.__name__}: {place}: {first['msg']}")

    def unexpected(self, message: str) -> UnexpectedResponse:
        return UnexpectedResponse(
            f"The answer could not be read: {message}.",
            status=self.status,
            request_id=self.request_id,
        )


@functools.cache
def columns_of(model: type[BaseModel]) -> str:
    """What to select for a model. Never `*`: members may not read every column of every table."""
    return ",".join(field.alias or name for name, field in model.model_fields.items())
