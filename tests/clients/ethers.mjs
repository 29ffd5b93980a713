// ethers 6, unmodified: node ethers.mjs HTTP_URL WS_URL PRIVATE_KEY CHAIN_ID
import { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, parseEther } from 'ethers'
import { contract, equal, fails, truthy, within } from './check.mjs'

const [httpUrl, wsUrl, privateKey, chainId] = process.argv.slice(2)
const provider = new JsonRpcProvider(httpUrl, undefined, { pollingInterval: 100 })
const wallet = new Wallet(privateKey, provider)
const signer = new NonceManager(wallet)

equal('chain id', (await provider.getNetwork()).chainId, BigInt(chainId))
truthy('balance', (await provider.getBalance(wallet.address)) > parseEther('1'))

// A transfer, and its receipt.
const stranger = Wallet.createRandom().address
const sent = await signer.sendTransaction({ to: stranger, value: 12345n })
const receipt = await within(20000, 'receipt', sent.wait())
equal('status', receipt.status, 1)
equal('transfer', await provider.getBalance(stranger), 12345n)
equal('gas used', receipt.gasUsed, 21000n)

// Deploy, call, read what was written.
const factory = new ContractFactory(contract.abi, contract.bytecode, signer)
const deployed = await within(20000, 'deploy', factory.deploy(7n).then((item) => item.waitForDeployment()))
const counter = new Contract(await deployed.getAddress(), contract.abi, signer)
equal('number', await counter.number(), 7n)
equal('owner', await counter.owner(), wallet.address)
equal('static call', await counter.increase.staticCall(3n, 'asked'), 10n)
const increased = await within(20000, 'increase', counter.increase(5n, 'five').then((item) => item.wait()))
equal('number after', await counter.number(), 12n)
const events = await counter.queryFilter(counter.filters.Increased(wallet.address), receipt.blockNumber)
equal('events', events.map((event) => [event.args.number, event.args.note]), [[12n, 'five']])
equal('event hash', events[0].transactionHash, increased.hash)

// Every way to fail decodes.
await fails('revert reason', counter.increase.staticCall(0n, ''), (error) => equal('reason', error.reason, 'nothing to add'))
await fails('custom error', counter.increase.staticCall(1000n, ''), (error) => {
  equal('error name', error.revert.name, 'TooLarge')
  equal('error arguments', [...error.revert.args], [1000n, 100n])
})
await fails('panic', counter.divide(0n), (error) => equal('panic', error.reason, 'Panic due to DIVIDE_BY_ZERO(18)'))
await fails('estimate', counter.increase.estimateGas(0n, ''), (error) => equal('code', error.code, 'CALL_EXCEPTION'))
await fails('insufficient funds', new Wallet('0x' + '11'.repeat(32), provider).sendTransaction({ to: stranger, value: 1n }), (error) =>
  equal('code', error.code, 'INSUFFICIENT_FUNDS'))
await fails('nonce too low', wallet.sendTransaction({ to: stranger, value: 1n, nonce: 0 }), (error) =>
  equal('code', error.code, 'NONCE_EXPIRED'))

// Blocks, fees, history.
const block = await provider.getBlock(receipt.blockNumber, true)
equal('block transaction', block.prefetchedTransactions.some((item) => item.hash === sent.hash), true)
equal('transaction', (await provider.getTransaction(sent.hash)).value, 12345n)
truthy('fee data', (await provider.getFeeData()).maxFeePerGas > 0n)

// Heads and events over a WebSocket.
const live = new WebSocketProvider(wsUrl)
const watched = new Contract(await counter.getAddress(), contract.abi, live)
const head = new Promise((resolve) => live.once('block', resolve))
const event = new Promise((resolve) => watched.once('Increased', (by, number, note) => resolve([number, note])))
await live.getBlockNumber()
await new Promise((resolve) => setTimeout(resolve, 300)) // ethers subscribes without telling when it has
await counter.increase(1n, 'live')
truthy('new head', (await within(20000, 'newHeads', head)) > receipt.blockNumber)
equal('live event', await within(20000, 'logs', event), [13n, 'live'])
console.log('ok')
process.exit(0) // a provider that is destroyed rejects its own unsubscriptions
