"""Watches a run for faults that results do not show: missing waits and wait states, races, undefined values, bad accesses."""
