// A js-libp2p node under StrictNoSign on one topic: node gossip.mjs <multiaddress to dial> <topic>
// Says what it receives on stdout ("got <type> <base64>"); publishes each base64 line from stdin.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { gossipsub } from '@chainsafe/libp2p-gossipsub'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [address, topic] = process.argv.slice(2)
const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: gossipsub({
      globalSignaturePolicy: 'StrictNoSign',
      allowPublishToZeroTopicPeers: true,
      heartbeatInterval: 500,
      msgIdFn: (message) => createHash('sha256').update(message.data).digest().subarray(0, 20)
    })
  }
})
const { pubsub } = node.services
const say = (text) => process.stdout.write(text + '\n')
pubsub.addEventListener('message', ({ detail }) => {
  say(`got ${detail.type} ${Buffer.from(detail.data).toString('base64')}`)
})
pubsub.subscribe(topic)
await node.dial(multiaddr(address))
for await (const line of createInterface({ input: process.stdin })) {
  await pubsub.publish(topic, Buffer.from(line, 'base64'))
}
await node.stop()
process.exit(0)
