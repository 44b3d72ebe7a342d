"""Latency of exported subnets: measured, predicted with a bound, verified.

target.py       backend, device, threads, batch and seconds of a measurement
measure.py      measurements in turns, with a reference in every round
model.py        the additive predictor
calibration.py  measured subnets of this machine, and the cost predicted from them
"""

__all__: list[str] = []
