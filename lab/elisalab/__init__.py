# SPDX-License-Identifier: BSD-3-Clause
"""The lab: an emulated VT-x host with guests, scenario files and their runner."""
