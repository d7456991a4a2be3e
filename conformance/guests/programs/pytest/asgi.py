# An ASGI application that answers with a file of the pod.
async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    body = open("/data/conformance/text", "rb").read()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
