// A WebSocket client (RFC 6455) for a server on this machine: what node 18 has not.
'use strict';

const crypto = require('crypto');
const http = require('http');

const textFrame = 1;

// A text as one masked frame.
function frame(text) {
  const payload = Buffer.from(text);
  const mask = crypto.randomBytes(4);
  const length = payload.length < 126 ? Buffer.from([0x80 | payload.length])
    : Buffer.from([0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  const masked = payload.map((byte, i) => byte ^ mask[i % 4]);
  return Buffer.concat([Buffer.from([0x80 | textFrame]), length, mask, masked]);
}

// The first whole frame of the bytes as {kind, text, size}, if there is one.
function readFrame(bytes) {
  if (bytes.length < 2) return undefined;
  let [length, begin] = [bytes[1] & 0x7f, 2];
  const lengthSize = { 126: 2, 127: 8 }[length] ?? 0;
  begin += lengthSize;
  if (bytes.length < begin) return undefined;
  if (lengthSize === 2) length = bytes.readUInt16BE(2);
  if (lengthSize === 8) length = Number(bytes.readBigUInt64BE(2));
  const size = begin + length;
  if (bytes.length < size) return undefined;
  return { kind: bytes[0] & 0x0f, text: bytes.toString('utf8', begin, size), size };
}

// Sends a text and gives the messages that come, up to the one of which isLast is true.
function converse(url, route, text, isLast) {
  return new Promise((resolve, reject) => {
    const request = http.request(url + route, {
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': crypto.randomBytes(16).toString('base64'),
      },
    });
    request.on('error', reject);
    request.on('response', ({ statusCode }) => reject(new Error(`status ${statusCode}`)));
    request.on('upgrade', (response, socket, head) => {
      let bytes = head;
      const messages = [];
      const take = (more) => {
        bytes = Buffer.concat([bytes, more]);
        for (let next = readFrame(bytes); next; next = readFrame(bytes)) {
          bytes = bytes.subarray(next.size);
          if (next.kind !== textFrame) continue;
          messages.push(next.text);
          if (!isLast(next.text)) continue;
          socket.destroy();
          resolve(messages);
        }
      };
      socket.on('data', take);
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(`closed behind ${messages.length} messages`)));
      socket.write(frame(text));
    });
    request.end();
  });
}

module.exports = { converse };
