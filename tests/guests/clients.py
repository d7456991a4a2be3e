"""One line for each client program in Python: HTTP by urllib, a Redis PING, UDP echo, asyncio."""
import asyncio, socket, urllib.request

print("urllib", urllib.request.urlopen("http://web/", timeout=20).read().splitlines()[0].decode())

with socket.create_connection(("redis.default", 6379), timeout=20) as redis:
    redis.sendall(b"PING\r\nSET inpod:test value\r\nGET inpod:test\r\n")
    text = b""
    while text.count(b"\r\n") < 4: text += redis.recv(4096)
print("redis", text.decode().split())

address = (socket.gethostbyname("echo"), 7000)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.settimeout(20)
one.sendto(b"unconnected", address)
got, by = one.recvfrom(100)
print("udp", got.decode(), by == address)
two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); two.settimeout(20)
two.connect(address); two.send(b"connected")
print("udp", two.recv(100).decode(), two.getpeername() == address)

async def ask(number):
    reader, writer = await asyncio.open_connection("echo.default.svc", 7000)
    writer.write(b"%d" % number); writer.write_eof()
    text = await reader.read()
    writer.close()
    return int(text)
async def all():
    return await asyncio.gather(*(ask(number) for number in range(50)))
print("asyncio", sum(asyncio.run(all())))
