"""One token, one membership; and a token that was taken back opens nothing."""

from __future__ import annotations

from collections.abc import Callable

from .crew import Outcome, Session
from .naive import PAUSE, rewrite, without_business_lock
from .race import Race, Trial, complaint
from .scenery import Office, Person, Scenery

_ACCEPT = "select * from accept_invitation(token => %s)"
_INVITE = "select * from invite_member(business_id => %s, email => %s, role => %s)"


def _accept_without_lock(session: Session) -> None:
    """Looks at the invitation first and trusts what it saw; a second joining is no error."""
    without_business_lock(session)
    rewrite(
        session,
        "public.accept_invitation",
        (r"and i\.status = 'pending' and i\.expires_at > now\(\)",
         "and v_invitation.status = 'pending' and v_invitation.expires_at > now()"),
        (r" where m\.status = 'removed'", ""),
    )  # fmt: skip
    session.execute("drop trigger _200_status on invitations")


def _joined(scenery: Scenery, office: Office) -> int:
    """Members besides those whom the office began with."""
    total = scenery.value(
        "select count(*) from business_memberships where business_id = %s and status = 'active'",
        office.business_id,
    )
    return int(total) - len(office.people)


def _one_token(scenery: Scenery, people: list[Person]) -> Trial:
    office = scenery.office("owner")
    token = scenery.invite(office, people[0].email)["token"]

    def violation(outcomes: list[Outcome]) -> str | None:
        if (joined := _joined(scenery, office)) != 1:
            return f"{joined} memberships"
        accepted = scenery.value(
            "select count(*) from invitations where business_id = %s and status = 'accepted'",
            office.business_id,
        )
        if accepted != 1:
            return f"{accepted} accepted invitations"
        return complaint(outcomes, {"PT404"}, winners=1)

    return Trial([one.calls(_ACCEPT, token) for one in people], violation)


def _eight_sessions(scenery: Scenery) -> Trial:
    return _one_token(scenery, [scenery.person()] * 8)


def _eight_accounts(scenery: Scenery) -> Trial:
    """Single sign-on makes accounts of the same address; so does a different case."""
    first = scenery.person()
    name, host = first.email.split("@")
    others = [scenery.person(f"{name}@{_spelled(host, n)}") for n in range(1, 8)]
    return _one_token(scenery, [first, *others])


def _spelled(host: str, number: int) -> str:
    return "".join(c.upper() if number >> n & 1 else c for n, c in enumerate(host))


def _accept_against(kind: str) -> Callable[[Scenery], Trial]:
    def prepare(scenery: Scenery) -> Trial:
        office, invited = scenery.office("owner", "admin"), scenery.person()
        invitation = scenery.invite(office, invited.email)
        admin = office.people[1]
        accept = invited.calls(_ACCEPT, invitation["token"])
        named = (office.business_id, invitation["invitation_id"])
        against = {
            "revoke": admin.calls("select revoke_invitation(%s, %s)", *named),
            "resend": admin.calls("select * from resend_invitation(%s, %s)", *named),
            "invite": admin.calls(_INVITE, office.business_id, invited.email, "staff"),
        }[kind]

        def violation(outcomes: list[Outcome]) -> str | None:
            joined, pending = _joined(scenery, office), _pending(scenery, office)
            if joined + pending != (0 if kind == "revoke" and outcomes[-1].is_done else 1):
                return f"{joined} joined, {pending} open invitations"
            refusals = {"PT404"} if kind == "revoke" else {"PT404", "23505"}
            return complaint(outcomes, refusals, winners=1)

        return Trial([accept, accept, accept, against], violation)

    return prepare


def _pending(scenery: Scenery, office: Office) -> int:
    return int(
        scenery.value(
            "select count(*) from invitations where business_id = %s and status = 'pending'",
            office.business_id,
        )
    )


def _invite_twice(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "admin", "admin", "admin")
    email = scenery.person().email
    calls = [one.calls(_INVITE, office.business_id, email, "staff") for one in office.people]

    def violation(outcomes: list[Outcome]) -> str | None:
        if (pending := _pending(scenery, office)) != 1:
            return f"{pending} open invitations of one address"
        return complaint(outcomes, (), winners=len(calls))

    return Trial(calls, violation)


def _invite_without_lock(session: Session) -> None:
    without_business_lock(session)
    session.execute("drop index invitations_pending_key")


def _resend_and_revoke(scenery: Scenery) -> Trial:
    office = scenery.office("owner", "admin")
    owner, admin = office.people
    invitation = scenery.invite(office, scenery.person().email)
    named = (office.business_id, invitation["invitation_id"])

    def violation(outcomes: list[Outcome]) -> str | None:
        if all(one.is_done for one in outcomes):
            return f"revoked, and {_pending(scenery, office)} open invitation"
        return complaint(outcomes, {"PT404"}, winners=1)

    return Trial(
        [
            owner.calls("select * from resend_invitation(%s, %s)", *named),
            admin.calls("select revoke_invitation(%s, %s)", *named),
        ],
        violation,
    )


def _resend_without_lock(session: Session) -> None:
    without_business_lock(session)
    rewrite(session, "public.resend_invitation", (r"  return query", f"  {PAUSE} return query"))


INVITATIONS = (
    Race("one token, eight sessions of its user", "one membership, one consumption",
         _eight_sessions, _accept_without_lock),
    Race("one token, eight accounts of its address", "one membership, one consumption",
         _eight_accounts, _accept_without_lock),
    Race("accept against revoke", "joined or revoked, never both",
         _accept_against("revoke"), _accept_without_lock),
    Race("accept against a new invitation", "joined or invited anew, never both",
         _accept_against("invite"), _accept_without_lock),
    Race("accept against resend", "joined or invited anew, never both",
         _accept_against("resend"), _accept_without_lock),
    Race("four admins invite one address", "one open invitation, nobody refused",
         _invite_twice, _invite_without_lock),
    Race("resend against revoke", "sent anew or revoked, never both",
         _resend_and_revoke, _resend_without_lock),
)  # fmt: skip
