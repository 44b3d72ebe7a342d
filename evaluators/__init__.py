"""Costs and scores of subnets.

costs/   params, macs (exact, additive) and latency_ms (predicted with a bound, measured again)
scores/  what a subnet is worth: distillation (teacher distance), probes of labels, weighted sums, synthetic
tasks/   what a subnet serves for: small heads on frozen hidden states

Neither imports torch until something needs weights.
"""

from evaluators import costs, scores

__all__ = ["costs", "scores"]
