"""Asking language models: client, work queue, cassettes, ledger, validated answers."""
