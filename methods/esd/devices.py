"""ESD's place for ``--devices``, which all published trainers take: see `erasure.devices`."""

from erasure.devices import DEFAULT, choose_device, parse_devices

__all__ = ["DEFAULT", "choose_device", "parse_devices"]
