"""What the names in the results mean to a reader."""

from __future__ import annotations

from bench.shapes import PERSONAS, SHAPES

SHAPE_TITLES = {shape.name: shape.title for shape in SHAPES}
PERSONA_TITLES = {persona.name: persona.title for persona in PERSONAS}

VARIANT_TITLES = {
    "none": "none",
    "control": "control",
    "slots": "16 slots (ours)",
    "one_slot": "one slot",
    "single_row": "single row",
    "guard": "guard",
    "guard_audit": "guard + audit",
    "all": "all (ours)",
    "stored": "stored only",
    "message_new": "message, new number",
    "message_known": "message, known number",
    "message_same": "message, same number",
    "call_new": "call, new number",
    "call_known": "call, known number",
}
