# Run by two workers.
import socket
import urllib.request

import pytest


@pytest.mark.parametrize("number", range(2))
def test_a_file(number):
    assert open("/data/conformance/text").read() == "hello from the pod\n"


def test_a_page():
    with urllib.request.urlopen("http://echo.shop.internal:8000/page") as answer:
        assert answer.read() == b"a page of the pod\n"


def test_a_refusal():
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("10.77.0.40", 9))
