"""Names of the database as names of Python."""

from __future__ import annotations

import keyword

from pydantic import BaseModel

#: Plural-looking words that are none.
_SINGULAR_ENDINGS = ("ss", "us", "is")


def class_name(relation: str) -> str:
    """`contact_points` is ContactPoint, `businesses` Business, `status_history` StatusHistory."""
    *head, last = relation.split("_")
    return pascal("_".join([*head, singular(last)]))


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(_SINGULAR_ENDINGS):
        return word[:-1]
    return word


def field_name(column: str) -> str:
    """A name that pydantic and Python allow; differs from the column only where it must."""
    name = column
    if not name.isidentifier():
        name = "field_" + "".join(c if c.isalnum() else "_" for c in name)
    elif name.startswith("_"):
        name = "field" + name
    # Attributes of every model, such as `schema` and `copy`, and pydantic's own prefix.
    if keyword.iskeyword(name) or hasattr(BaseModel, name) or name.startswith("model_"):
        name += "_"
    return name
