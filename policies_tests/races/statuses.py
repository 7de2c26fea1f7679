"""Two changes of a status of which only one is legal after the other."""

from __future__ import annotations

from uuid import UUID

from .crew import Outcome, Session
from .race import Race, Trial
from .scenery import Scenery

_MOVE = "update conversations set status = %s where business_id = %s and id = %s"
_NAIVE_MOVE = "select naive_move(%s, %s, %s)"


def _open_and_close(scenery: Scenery) -> Trial:
    """From resolved a conversation is opened again or closed for good."""
    office = scenery.office("owner")
    channel = scenery.value(
        "insert into channels (business_id, kind, name, address)"
        " values (%s, 'web_chat', 'Desk', 'desk') returning id",
        office.business_id,
    )
    conversation: UUID = scenery.value(
        "insert into conversations (business_id, channel_id, peer, status)"
        " values (%s, %s, 'someone', 'resolved') returning id",
        *(office.business_id, channel),
    )
    statement = _NAIVE_MOVE if scenery.is_naive else _MOVE
    wanted = ["open", "closed"] * 4
    calls = [office.owner.calls(statement, to, office.business_id, conversation) for to in wanted]

    def violation(outcomes: list[Outcome]) -> str | None:
        done = {to for to, one in zip(wanted, outcomes, strict=True) if one.is_done}
        errors = {error for one in outcomes for error in one.errors}
        if len(done) != 1:
            return f"both {sorted(done)} got through"
        return f"unexpected errors {errors}" if errors != {"PT409"} else None

    return Trial(calls, violation)


def _checked_before(session: Session) -> None:
    """Looks up whether the change is legal, then makes it."""
    session.execute("drop trigger _200_status on conversations")
    session.execute(
        """
        create function public.naive_move(wanted text, business uuid, conversation uuid)
        returns void language plpgsql security definer as $$
        begin
          if not exists (
            select 1 from public.conversations c join public.status_transitions t
              on t.machine = 'conversations.status' and t.from_status = c.status
            where c.business_id = business and c.id = conversation and t.to_status = wanted) then
            raise sqlstate 'PT409';
          end if;
          perform pg_sleep(0.004);
          update public.conversations set status = wanted
          where business_id = business and id = conversation;
        end $$
        """
    )
    session.execute("grant execute on function public.naive_move to authenticated")


STATUSES = (
    Race(
        "reopen against close", "one of two conflicting changes", _open_and_close, _checked_before
    ),
)
