"""Training a supernet by two-stage distillation."""

__all__: list[str] = []
