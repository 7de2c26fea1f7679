# Made from _async/customers.py by tools/generate_sync.py: do not edit.
"""Customers: whom a business serves, and the addresses they are known by."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from uuid import UUID

from tenantry._generated.arguments import CustomerUpdate
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry._retry import Safety
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, matching, not_found, within
from tenantry.errors import InvalidArgument
from tenantry.models import (
    ContactPoint,
    ContactPointKind,
    Customer,
    CustomerKind,
    CustomerLifecycleStage,
    CustomerSummary,
)


class Customers(Resource):
    """Customers of the business in use."""

    def create(
        self,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
        phone: str | None = None,
        email: str | None = None,
        kind: CustomerKind | None = None,
        company_name: str | None = None,
        title: str | None = None,
        lifecycle_stage: CustomerLifecycleStage | None = None,
        source: str | None = None,
        tags: Sequence[str] | None = None,
        address_line: str | None = None,
        city: str | None = None,
        region: str | None = None,
        postal_code: str | None = None,
        country: str | None = None,
        notes: str | None = None,
        custom_fields: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Customer:
        """Create a customer with phone number and e-mail address in one step.

        Args:
            phone: Any way of writing it; without a country code it is read as a number of
                `country`, else of the business. Stored as E.164.
            lifecycle_stage: `lead` by default.
            country: ISO 3166-1 alpha-2.
            custom_fields: Your product's own fields, at most 64 kB.
            idempotency_key: Repeating the call with the same key and arguments gives the first
                result. Made by itself when retries are on.

        Raises:
            ValidationError: Naming the field; also when there is neither name nor address.
            Conflict: The address belongs to somebody: `details["customer_id"]` says to whom.
            PlanLimitExceeded: The plan allows no more customers.
            IdempotencyConflict: The key was used with other arguments.
        """
        arguments = {
            "business_id": self._business_id,
            "first_name": first_name, "last_name": last_name, "phone": phone, "email": email,
            "kind": kind, "company_name": company_name, "title": title,
            "lifecycle_stage": lifecycle_stage, "source": source, "tags": tags,
            "address_line": address_line, "city": city, "region": region,
            "postal_code": postal_code, "country": country, "notes": notes,
            "custom_fields": custom_fields,
        }  # fmt: skip
        reply = self._call_once(
            "create_customer", arguments, idempotency_key=idempotency_key, returns=Customer
        )
        return reply.one(Customer)

    def get(self, customer_id: UUID | str) -> Customer:
        """A customer, also a removed one: see `deleted_at`. Raises NotFound."""
        return self._get("customers", Customer, customer_id)

    def summary(self, customer_id: UUID | str) -> CustomerSummary:
        """A customer with counts of calls and messages, last interaction. Raises NotFound."""
        return self._get("customer_summary", CustomerSummary, customer_id)

    def list(
        self,
        *,
        kind: CustomerKind | None = None,
        lifecycle_stage: CustomerLifecycleStage | None = None,
        tag: str | None = None,
        source: str | None = None,
        owner_membership_id: UUID | str | None = None,
        department_id: UUID | str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        include_removed: bool = False,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> Pages[Customer]:
        """Customers by creation.

        Args:
            owner_membership_id: The member who looks after them.
            department_id: The department they belong to, without those below it.
            since: Created at this moment or later.
            until: Created before this moment.
            include_removed: Also removed ones and those merged into another.
            page_size: Rows per request, 1 to 500.
            after: A cursor: go on behind the page it came from.
        """
        query = matching(
            self._rows("customers", Customer),
            kind=kind,
            lifecycle_stage=lifecycle_stage,
            source=source,
            owner_membership_id=owner_membership_id,
            department_id=department_id,
        )
        if tag is not None:
            query = query.contains("tags", [tag])
        if not include_removed:
            query = query.is_("deleted_at", None).is_("merged_into_id", None)
        query = within(query, "created_at", since, until)
        return self._pages(
            query, Customer, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    def search(self, query: str, *, limit: int = 20) -> builtins.list[Customer]:
        """Customers by beginnings of words, or part of a number or address, best first.

        Args:
            query: At least two characters, such as `ana mil` or `555 01`.
            limit: 1 to 200.

        Raises:
            ValidationError: The query is too short.
        """
        if not 1 <= limit <= 200:
            raise InvalidArgument("limit", f"{limit} is out of bounds", hint="Give 1 to 200.")
        arguments = {"business_id": self._business_id, "query": query, "max_results": limit}
        reply = self._call("search_customers", arguments, returns=Customer, safety=self._repeatable)
        return reply.many(Customer)

    def find(self, *, phone: str | None = None, email: str | None = None) -> Customer | None:
        """The customer who owns this phone number (any way of writing it) or e-mail address."""
        if phone is None and email is None:
            raise InvalidArgument("phone", "nothing to look for", hint="Give phone or email.")
        arguments = {"business_id": self._business_id, "phone": phone, "email": email}
        reply = self._call("find_customer", arguments, returns=Customer, safety=self._repeatable)
        # A function that returns a null row is served as null, or as a row of nulls.
        if not isinstance(reply.data, dict) or reply.data.get("id") is None:
            return None
        return reply.one(Customer)

    def update(self, customer_id: UUID | str, **changes: Unpack[CustomerUpdate]) -> Customer:
        """Change fields; what is not named stays, None empties.

        `owner_membership_id` and `department_id` decide who reaches the customer with a permission
        of scope own or department; calls and open conversations follow.

        Phone numbers and e-mail addresses are contact points: see `add_contact_point`.

        Raises:
            NotFound: There is none, or you may only read it.
            ValidationError: Naming the field where the server knows it.
        """
        return self._update("customers", Customer, customer_id, changes, CustomerUpdate)

    def delete(self, customer_id: UUID | str, *, permanently: bool = False) -> None:
        """Remove a customer from lists and search; calls and messages stay. `restore` undoes it.

        Args:
            permanently: Erase the row and its contact points for good; calls and messages stay
                without a customer. Needs `customers.delete`.

        Raises:
            NotFound: There is none, or you lack the right.
        """
        if not permanently:
            now = datetime.datetime.now(datetime.UTC)
            self.update(customer_id, deleted_at=now)
            return
        query = (
            self._table("customers")
            .delete()
            .eq("business_id", self._business_id)
            .eq("id", check_id(customer_id))
            .select("id")
        )
        reply = self._send(query)
        # After a retry an earlier attempt may have done it already.
        if not reply.data and not reply.retries:
            raise not_found("customers", customer_id, reply)

    def restore(self, customer_id: UUID | str) -> Customer:
        """Bring a removed customer back. Raises NotFound."""
        return self.update(customer_id, deleted_at=None)

    # Addresses.

    def contact_points(self, customer_id: UUID | str) -> builtins.list[ContactPoint]:
        """Phone numbers, e-mail addresses and handles of a customer, oldest first."""
        query = self._rows("contact_points", ContactPoint)
        query = query.eq("customer_id", check_id(customer_id, "customer_id"))
        reply = self._send(query.order("created_at").order("id"))
        return reply.many(ContactPoint)

    def add_contact_point(
        self, customer_id: UUID | str, *, kind: ContactPointKind, raw: str, is_primary: bool = False
    ) -> ContactPoint:
        """Add an address; it is normalised, and the first of its kind becomes the primary one.

        Raises:
            ValidationError: It is no valid address of this kind.
            Conflict: It belongs to a customer of this business already.
        """
        row = {
            "business_id": self._business_id,
            "customer_id": check_id(customer_id, "customer_id"),
            "kind": kind, "raw": raw, "is_primary": is_primary,
        }  # fmt: skip
        query = self._table("contact_points").insert(row).select(columns_of(ContactPoint))
        reply = self._send(query, Safety.ONCE)
        return self._single(reply, ContactPoint)

    def remove_contact_point(self, contact_point_id: UUID | str) -> None:
        """Remove an address. Raises NotFound."""
        query = (
            self._table("contact_points")
            .delete()
            .eq("business_id", self._business_id)
            .eq("id", check_id(contact_point_id))
            .select("id")
        )
        reply = self._send(query)
        if not reply.data and not reply.retries:
            raise not_found("contact_points", contact_point_id, reply)
