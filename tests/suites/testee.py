"""Autobahn's own server, which compresses: on a free port of loopback, whatever name its clients have for it."""

from __future__ import print_function

import sys

from autobahntestsuite.testee import TesteeServerFactory
from twisted.internet import reactor

# With an address it would refuse clients that came through another one.
listening = reactor.listenTCP(0, TesteeServerFactory(None), interface="127.0.0.1")
print(listening.getHost().port)
sys.stdout.flush()
reactor.run()
