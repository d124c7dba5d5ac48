"""Headrace: the AT Protocol firehose, carried into an AppView's Postgres.

Layers, imports go downwards only (``pyproject.toml`` enforces it)::

    cli                       parses arguments
    runtime                   plans and supervises processes
    roles | ops | simulate    one process' job | tools | networks to test with
    adapters                  one outside thing each: Redis, Postgres, websocket, HTTP
    settings | log
    collections | sql         what a collection means, as data | statements
    core                      pure; ``core.codec`` is the only door to ``_native``
    failpoints                crash points for tests, off unless asked for
    errors
"""
