// viem 2, unmodified: node viem.mjs HTTP_URL WS_URL PRIVATE_KEY CHAIN_ID
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  defineChain,
  http,
  parseEventLogs,
  webSocket,
} from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import { contract, equal, fails, truthy, within } from './check.mjs'

const [httpUrl, wsUrl, privateKey, chainId] = process.argv.slice(2)
const chain = defineChain({
  id: Number(chainId),
  name: 'Openledger devnet',
  nativeCurrency: { name: 'OPEN', symbol: 'OPEN', decimals: 18 },
  rpcUrls: { default: { http: [httpUrl], webSocket: [wsUrl] } },
})
const account = privateKeyToAccount(privateKey)
const client = createPublicClient({ chain, transport: http(undefined, { batch: true }), pollingInterval: 100 })
const wallet = createWalletClient({ account, chain, transport: http() })
const mined = (hash) => within(20000, 'receipt', client.waitForTransactionReceipt({ hash }))

equal('chain id', await client.getChainId(), Number(chainId))
truthy('balance', (await client.getBalance({ address: account.address })) > 10n ** 18n)

// A transfer.
const stranger = privateKeyToAccount(generatePrivateKey()).address
const receipt = await mined(await wallet.sendTransaction({ to: stranger, value: 54321n }))
equal('status', receipt.status, 'success')
equal('transfer', await client.getBalance({ address: stranger }), 54321n)

// Deploy, write, read, in the way an application does.
const deployed = await mined(await wallet.deployContract({ abi: contract.abi, bytecode: contract.bytecode, args: [7n] }))
const counter = { address: deployed.contractAddress, abi: contract.abi }
equal('number', await client.readContract({ ...counter, functionName: 'number' }), 7n)
const { request, result } = await client.simulateContract({ ...counter, account, functionName: 'increase', args: [5n, 'five'] })
equal('simulated', result, 12n)
const increased = await mined(await wallet.writeContract(request))
const [log] = parseEventLogs({ abi: contract.abi, logs: increased.logs })
equal('event', [log.eventName, log.args.number, log.args.note], ['Increased', 12n, 'five'])
const found = await client.getContractEvents({ ...counter, eventName: 'Increased', args: { by: account.address }, fromBlock: 0n })
equal('events', found.map((item) => item.args.number), [12n])
equal('proof', (await client.getProof({ address: counter.address, storageKeys: ['0x' + '00'.repeat(32)] })).storageProof[0].value, 12n)

// Polled filters.
const filter = await client.createContractEventFilter({ ...counter, eventName: 'Increased' })
await mined(await wallet.writeContract({ ...counter, functionName: 'increase', args: [2n, 'polled'] }))
const changes = await client.getFilterChanges({ filter })
equal('filter changes', changes.map((item) => item.args.note), ['polled'])
equal('uninstall', await client.uninstallFilter({ filter }), true)

// Every way to fail decodes.
const reverted = (error) => {
  const cause = error instanceof BaseError && error.walk((item) => item instanceof ContractFunctionRevertedError)
  truthy(`a revert, not ${error}`, cause)
  return cause
}
const call = (args) => client.simulateContract({ ...counter, account, functionName: 'increase', args })
await fails('revert reason', call([0n, '']), (error) => equal('reason', reverted(error).reason, 'nothing to add'))
await fails('custom error', call([1000n, '']), (error) => {
  equal('error', [reverted(error).data.errorName, reverted(error).data.args], ['TooLarge', [1000n, 100n]])
})
await fails('panic', client.readContract({ ...counter, functionName: 'divide', args: [0n] }), (error) => {
  equal('panic', reverted(error).data.errorName, 'Panic')
})
const poor = createWalletClient({ account: privateKeyToAccount(generatePrivateKey()), chain, transport: http() })
await fails('insufficient funds', poor.sendTransaction({ to: stranger, value: 1n }), (error) => {
  truthy(`insufficient funds, not ${error}`, error.walk((item) => item.name === 'InsufficientFundsError'))
})

// Blocks and fees.
const block = await client.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true })
truthy('transaction in block', block.transactions.some((item) => item.hash === receipt.transactionHash))
truthy('fees', (await client.estimateFeesPerGas()).maxFeePerGas > 0n)
equal('fee history', (await client.getFeeHistory({ blockCount: 2, rewardPercentiles: [25, 75] })).baseFeePerGas.length, 3)

// Heads over a WebSocket.
const live = createPublicClient({ chain, transport: webSocket(wsUrl, { reconnect: false }) })
equal('websocket chain id', await live.getChainId(), Number(chainId))
let unwatch
const head = new Promise((resolve, reject) => {
  unwatch = live.watchBlocks({ onBlock: resolve, onError: reject })
})
await live.getBlockNumber()
await mined(await wallet.sendTransaction({ to: stranger, value: 1n }))
truthy('new head', (await within(20000, 'newHeads', head)).number > receipt.blockNumber)
unwatch()
const socket = await live.transport.getRpcClient()
socket.close()
console.log('ok')
process.exit(0)
