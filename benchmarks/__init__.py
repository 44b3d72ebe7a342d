"""Measurements that stand in the README and docs; each prints its commit and command."""
