"""How fast and how small: Guestkeeper against bare libvirt, measured in the same run.

``python -m bench`` prints a table and writes ``bench/results.json``. A figure without its floor
(what libvirt alone takes for the same, just now, on the same machine) says more about the machine
than about the program; so each is taken beside its floor, in turns.
"""
