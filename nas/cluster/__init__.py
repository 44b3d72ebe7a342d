"""Ray clusters.

connection.py    joining one, its resources, its versions
object_store.py  values shared by driver and actors, mapped instead of copied
remote_call.py   calls on nodes with a named resource, where latency is measured
sweep.py         a grid of searches as trials of Ray Tune
train.py         training in several processes
"""

__all__: list[str] = []
