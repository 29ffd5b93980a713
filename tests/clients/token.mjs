// An OpenZeppelin token with permits and an account that delegates, by viem: node token.mjs HTTP_URL PRIVATE_KEY CHAIN_ID
import { readFileSync } from 'node:fs'
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  defineChain,
  http,
  parseSignature,
  zeroAddress,
} from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import { erc7821Actions } from 'viem/experimental'
import { equal, fails, truthy, within } from './check.mjs'

const [httpUrl, privateKey, chainId] = process.argv.slice(2)
const chain = defineChain({
  id: Number(chainId),
  name: 'Openledger devnet',
  nativeCurrency: { name: 'OPEN', symbol: 'OPEN', decimals: 18 },
  rpcUrls: { default: { http: [httpUrl] } },
})
const artifact = (name) => JSON.parse(readFileSync(new URL(`./contracts/${name}.json`, import.meta.url)))
const [tokenCode, batchCode] = [artifact('PermitToken'), artifact('BatchAccount')]
const client = createPublicClient({ chain, transport: http(), pollingInterval: 100 })
const signer = (key) => createWalletClient({ account: privateKeyToAccount(key), chain, transport: http() })
const mined = async (hash) => {
  const receipt = await within(20000, 'receipt', client.waitForTransactionReceipt({ hash }))
  equal('status', receipt.status, 'success')
  return receipt
}
const revert = (name) => (error) => {
  const cause = error instanceof BaseError && error.walk((item) => item instanceof ContractFunctionRevertedError)
  truthy(`a revert with ${name}, not ${error}`, cause)
  equal('error', cause.data?.errorName, name)
}

const relayer = signer(privateKey)
const holder = signer(generatePrivateKey()) // has tokens and no money of its own at first
const [abi, supply] = [tokenCode.abi, 10n ** 24n]
const token = (await mined(await relayer.deployContract({ abi, bytecode: tokenCode.bytecode, args: [supply] }))).contractAddress
const batch = (await mined(await relayer.deployContract({ abi: batchCode.abi, bytecode: batchCode.bytecode }))).contractAddress
const read = (functionName, ...args) => client.readContract({ address: token, abi, functionName, args })
const write = (wallet, functionName, ...args) => wallet.writeContract({ address: token, abi, functionName, args })
const balance = (address) => read('balanceOf', address)
equal('supply', await balance(relayer.account.address), supply)
await mined(await write(relayer, 'transfer', holder.account.address, 1000n))

// A permit (EIP-2612): the holder signs, somebody else pays.
const deadline = (await client.getBlock()).timestamp + 3600n
const permit = async (value, until) => {
  const signature = await holder.signTypedData({
    domain: { name: 'Permit Token', version: '1', chainId: Number(chainId), verifyingContract: token },
    types: {
      Permit: [
        { name: 'owner', type: 'address' },
        { name: 'spender', type: 'address' },
        { name: 'value', type: 'uint256' },
        { name: 'nonce', type: 'uint256' },
        { name: 'deadline', type: 'uint256' },
      ],
    },
    primaryType: 'Permit',
    message: {
      owner: holder.account.address,
      spender: relayer.account.address,
      value,
      nonce: await read('nonces', holder.account.address),
      deadline: until,
    },
  })
  const { v, r, s } = parseSignature(signature)
  return [holder.account.address, relayer.account.address, value, until, Number(v), r, s]
}
const signed = await permit(400n, deadline)
await mined(await write(relayer, 'permit', ...signed))
equal('allowance', await read('allowance', holder.account.address, relayer.account.address), 400n)
await mined(await write(relayer, 'transferFrom', holder.account.address, relayer.account.address, 300n))
equal('left', await balance(holder.account.address), 700n)
const tries = (functionName, ...args) =>
  client.simulateContract({ address: token, abi, functionName, args, account: relayer.account })
await fails('a permit used twice', tries('permit', ...signed), revert('ERC2612InvalidSigner'))
await fails('a permit too late', tries('permit', ...(await permit(1n, 1n))), revert('ERC2612ExpiredSignature'))
await fails(
  'more than allowed',
  tries('transferFrom', holder.account.address, relayer.account.address, 101n),
  revert('ERC20InsufficientAllowance'),
)

// A delegation (EIP-7702) that somebody else sends and pays.
const guest = signer(generatePrivateKey())
const sponsored = await guest.signAuthorization({ contractAddress: batch })
const delegated = await mined(await relayer.sendTransaction({ authorizationList: [sponsored], to: zeroAddress }))
equal('type', delegated.type, 'eip7702')
const designator = (address) => `0xef0100${address.slice(2)}`.toLowerCase()
equal('code', await client.getCode({ address: guest.account.address }), designator(batch))
const listed = await client.getTransaction({ hash: delegated.transactionHash })
equal('authorization', listed.authorizationList.map((item) => item.address.toLowerCase()), [batch.toLowerCase()])

// A delegation of one's own, used at once for several calls in one transaction (ERC-7821).
await mined(await relayer.sendTransaction({ to: holder.account.address, value: 10n ** 18n }))
const own = await holder.signAuthorization({ contractAddress: batch, executor: 'self' })
const pay = (to, amount) => ({ to: token, abi, functionName: 'transfer', args: [to, amount] })
const batching = holder.extend(erc7821Actions())
const calls = [pay(guest.account.address, 200n), pay(relayer.account.address, 100n)]
const executed = await mined(await batching.execute({ address: holder.account.address, calls, authorizationList: [own] }))
equal('type', executed.type, 'eip7702')
equal('events', executed.logs.length, 2)
equal('balances', [await balance(holder.account.address), await balance(guest.account.address)], [400n, 200n])
equal('supports batches', await batching.supportsExecutionMode({ address: holder.account.address }), true)

// All or nothing: the second call fails, so the first never was.
await fails(
  'a batch with a call that fails',
  batching.execute({ address: holder.account.address, calls: [pay(guest.account.address, 1n), pay(guest.account.address, 10n ** 30n)] }),
  revert('ERC20InsufficientBalance'),
)
equal('nothing moved', await balance(holder.account.address), 400n)

// Strangers may not execute, and what such an account may have waiting is limited.
await fails(
  'a stranger executes',
  client.simulateContract({
    address: holder.account.address,
    abi: [...batchCode.abi, { type: 'error', name: 'AccountUnauthorized', inputs: [{ name: 'sender', type: 'address' }] }],
    functionName: 'execute',
    args: [`0x01${'00'.repeat(31)}`, '0x'],
    account: relayer.account,
  }),
  revert('AccountUnauthorized'),
)
const nonce = await client.getTransactionCount({ address: holder.account.address })
await fails('a nonce too far', holder.sendTransaction({ to: zeroAddress, nonce: nonce + 3, gas: 100000n }), (error) =>
  truthy(`the pool's words, not ${error.message}`, error.message.includes('gapped-nonce tx from delegated accounts')))

// Taken back with the zero address.
const none = await holder.signAuthorization({ contractAddress: zeroAddress, executor: 'self' })
await mined(await holder.sendTransaction({ authorizationList: [none], to: zeroAddress }))
equal('code', await client.getCode({ address: holder.account.address }), undefined)
console.log('ok')
process.exit(0)
