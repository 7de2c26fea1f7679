"""Benchmarks with ratios: what row security, metrics and auto-linking cost, measured side by side.

`python -m bench run` builds a throw-away server, measures, prints and saves; nothing that runs
already is touched. Start with __main__.py; each section is one module of the same name.
"""
