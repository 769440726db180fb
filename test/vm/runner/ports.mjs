// The sockets through which the guest's virtio ports and qemu's monitor speak to us.
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** Listens in the current directory for the one connection that qemu makes. */
export async function listen(path, onConnection) {
  const server = createServer((socket) => {
    server.close();
    socket.on('error', () => {}); // qemu was ended in the middle: 'close' follows
    onConnection(socket);
  });
  await new Promise((resolve) => server.listen(path, resolve));
}

/** Listens for lines of text. */
export async function listenForLines(path, onLine, onConnection = () => {}) {
  await listen(path, (socket) => {
    createInterface(socket)
      .on('line', onLine)
      .on('error', () => {});
    onConnection(socket);
  });
}

/** Hands what comes to a stream as it comes. Returns what resolves when all has been handed over. */
export async function listenForOutput(path, stream) {
  let finish = () => {};
  const handedOver = new Promise((resolve) => {
    finish = resolve;
  });
  let connected = false;
  await listen(path, (socket) => {
    connected = true;
    socket.on('close', finish).pipe(stream, { end: false });
  });
  return () => (connected ? handedOver : undefined);
}
