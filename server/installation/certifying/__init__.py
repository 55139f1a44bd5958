"""Devices and recipients of an installation, and the organisations that certify them."""
