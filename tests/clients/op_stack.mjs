// viem's OP-Stack functions, unmodified: node op_stack.mjs L1_URL L2_URL CLOCK_URL PRIVATE_KEY ADDRESSES_JSON
//
// The chains' time passes only when it is asked to (POST of seconds to CLOCK_URL), so no step depends on how fast
// anything is: viem's clock and its timers are the chains'.
import { request as httpRequest } from 'node:http'
import {
  createPublicClient,
  createWalletClient,
  defineChain,
  http,
  parseAbi,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import {
  chainConfig,
  extractTransactionDepositedLogs,
  getL2TransactionHashes,
  getWithdrawals,
  publicActionsL1,
  publicActionsL2,
  walletActionsL1,
  walletActionsL2,
} from 'viem/op-stack'
import { equal, fails, truthy } from './check.mjs'

const [l1Url, l2Url, clockUrl, privateKey, addresses] = process.argv.slice(2)
const known = JSON.parse(addresses)
const account = privateKeyToAccount(privateKey)

// Node's own fetch has timers of its own among the global ones.
function post(url, { body }) {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method: 'POST', headers: { 'content-type': 'application/json' } }, (answer) => {
      const pieces = []
      answer.on('data', (piece) => pieces.push(piece))
      answer.on('end', () => resolve(new Response(Buffer.concat(pieces), { status: answer.statusCode, headers: answer.headers })))
    })
    request.on('error', reject)
    request.end(body)
  })
}

// The clock: time goes on by what somebody waits for.
let now = 0
async function pass(seconds) {
  now = Number(await (await post(clockUrl, { body: String(Math.ceil(seconds)) })).text())
}
const realTimeout = globalThis.setTimeout
globalThis.setTimeout = (then, milliseconds = 0, ...rest) => {
  if (milliseconds < 100) return realTimeout(then, milliseconds, ...rest)
  pass(milliseconds / 1000).then(() => then(...rest))
}
Date.now = () => now * 1000

const native = { name: 'OPEN', symbol: 'OPEN', decimals: 18 }
const l1 = defineChain({
  id: known.l1ChainId,
  name: 'L1',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [l1Url] } },
  contracts: { multicall3: { address: '0xca11bde05977b3631167028862be2a173976ca11' } },
})
const l2 = defineChain({
  ...chainConfig,
  id: known.l2ChainId,
  name: 'Openledger devnet',
  nativeCurrency: native,
  rpcUrls: { default: { http: [l2Url] } },
  sourceId: l1.id,
  contracts: {
    ...chainConfig.contracts,
    portal: { [l1.id]: { address: known.portal } },
    l2OutputOracle: { [l1.id]: { address: known.oracle } },
  },
})
const options = { transport: http(undefined, { timeout: 0, retryCount: 0, fetchFn: post }) }
const onL1 = createPublicClient({ chain: l1, ...options }).extend(publicActionsL1())
const onL2 = createPublicClient({ chain: l2, ...options }).extend(publicActionsL2())
const walletL1 = createWalletClient({ account, chain: l1, ...options }).extend(walletActionsL1())
const walletL2 = createWalletClient({ account, chain: l2, ...options }).extend(walletActionsL2())

async function mined(client, hash) {
  for (let tries = 0; tries < 20; tries++) {
    try {
      return await client.getTransactionReceipt({ hash })
    } catch {
      await pass(4)
    }
  }
  throw new Error(`${hash} is in no block`)
}

await pass(8)
equal('portal version', (await onL1.getPortalVersion({ targetChain: l2 })).major, 2)

// --- L1 to L2 ---

const target = '0x00000000000000000000000000000000000077aa'
const built = await onL2.buildDepositTransaction({ account, to: target, value: 5n, data: '0x' })
truthy('gas of a deposit', built.request.gas >= 21000n)
truthy('gas on L1', (await onL1.estimateDepositTransactionGas(built)) > 50000n)
const deposited = await mined(onL1, await walletL1.depositTransaction(built))
equal('a deposit', deposited.status, 'success')
const [l2Hash] = getL2TransactionHashes(deposited)
const arrived = await mined(onL2, l2Hash)
equal('its transaction on L2', [arrived.status, arrived.from, arrived.to], ['success', account.address.toLowerCase(), target])
equal('what it moved', await onL2.getBalance({ address: target }), 5n)

// OPEN is a token on L1, so a deposit cannot mint it out of the transaction's value: it is locked by its own function.
await fails(
  'a deposit that mints L1 value',
  walletL1.depositTransaction(await onL2.buildDepositTransaction({ account, to: target, mint: 7n })),
  (error) => truthy(`a revert, not ${error.shortMessage}`, /NoValue|revert/.test(error.message)),
)
const abi = parseAbi([
  'function approve(address spender, uint256 amount) returns (bool)',
  'function balanceOf(address holder) view returns (uint256)',
  'function depositERC20Transaction(address to, uint256 mint, uint256 value, uint64 gasLimit, bool isCreation, bytes data)',
])
const token = { address: known.token, abi }
await mined(onL1, await walletL1.writeContract({ ...token, functionName: 'approve', args: [known.portal, 7n] }))
const locked = await mined(
  onL1,
  await walletL1.writeContract({
    address: known.portal,
    abi,
    functionName: 'depositERC20Transaction',
    args: [target, 7n, 7n, 100000n, false, '0x'],
  }),
)
equal('a deposit of OPEN', extractTransactionDepositedLogs(locked).length, 1)
await mined(onL2, getL2TransactionHashes(locked)[0])
equal('OPEN that came', await onL2.getBalance({ address: target }), 12n)

// --- fees ---

const call = { account, to: target, value: 1n, data: '0x' + 'a5'.repeat(300) }
const fee = await onL2.estimateL1Fee(call)
truthy('L1 base fee', (await onL2.getL1BaseFee()) > 0n)
truthy('L1 gas', (await onL2.estimateL1Gas(call)) > 0n)
truthy('operator fee', (await onL2.estimateOperatorFee(call)) > 0n)
truthy('gas in all', (await onL2.estimateTotalGas(call)) > 21000n)
truthy('fee in all', (await onL2.estimateTotalFee(call)) > fee)
const contractCall = { account, ...token, address: target, functionName: 'balanceOf', args: [target] }
for (const estimate of ['estimateContractL1Fee', 'estimateContractL1Gas', 'estimateContractTotalGas', 'estimateContractTotalFee'])
  truthy(estimate, (await onL2[estimate](contractCall)) > 0n)
const paid = await mined(onL2, await walletL2.sendTransaction(call))
truthy(`an estimate of ${fee} for ${paid.l1Fee}`, paid.l1Fee > fee / 2n && paid.l1Fee < fee * 2n)

// --- L2 to L1 ---

// The time to the next output counts from the latest one, so there must be one.
await pass(known.outputSeconds)
const held = await onL1.readContract({ ...token, functionName: 'balanceOf', args: [target] })
const withdrawal = await onL1.buildInitiateWithdrawal({ account, to: target, value: 900n })
truthy('gas of a withdrawal', (await onL2.estimateInitiateWithdrawalGas(withdrawal)) > 50000n)
const receipt = await mined(onL2, await walletL2.initiateWithdrawal(withdrawal))
const [begun] = getWithdrawals(receipt)
equal('withdrawal', [begun.value, begun.target.toLowerCase()], [900n, target])
const asked = { receipt, targetChain: l2 }
const status = () => onL1.getWithdrawalStatus(asked)
equal('before an output', await status(), 'waiting-to-prove')
truthy('time to the next output', (await onL1.getTimeToProve(asked)).seconds > 0)
const { output } = await onL1.waitToProve(asked)
equal('after it', await status(), 'ready-to-prove')
equal('output', (await onL1.getL2Output({ l2BlockNumber: receipt.blockNumber, targetChain: l2 })).outputRoot, output.outputRoot)
const proof = await onL2.buildProveWithdrawal({ output, withdrawal: begun })
truthy('gas of a proof', (await onL1.estimateProveWithdrawalGas({ ...proof, account })) > 100000n)
const broken = { ...proof, outputRootProof: { ...proof.outputRootProof, stateRoot: proof.outputRootProof.latestBlockhash } }
await fails('a wrong proof', walletL1.proveWithdrawal(broken), (error) => truthy('a revert', /revert/.test(error.message)))
equal('proved', (await mined(onL1, await walletL1.proveWithdrawal(proof))).status, 'success')
equal('proven', await status(), 'waiting-to-finalize')
truthy('time to finalize', (await onL1.getTimeToFinalize({ withdrawalHash: begun.withdrawalHash, targetChain: l2 })).seconds > 0)
const finalize = { withdrawal: begun, targetChain: l2 }
await fails('too early', walletL1.finalizeWithdrawal(finalize), (error) => truthy('a revert', /revert/.test(error.message)))
await onL1.waitToFinalize({ withdrawalHash: begun.withdrawalHash, targetChain: l2 })
equal('its time is over', await status(), 'ready-to-finalize')
truthy('gas of its end', (await onL1.estimateFinalizeWithdrawalGas({ ...finalize, account })) > 50000n)
equal('finalized', (await mined(onL1, await walletL1.finalizeWithdrawal(finalize))).status, 'success')
equal('status', await status(), 'finalized')
equal('OPEN on L1', (await onL1.readContract({ ...token, functionName: 'balanceOf', args: [target] })) - held, 900n)
console.log('ok')
process.exit(0)
