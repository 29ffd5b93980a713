const { expect } = require('chai')
const { anyValue } = require('@nomicfoundation/hardhat-chai-matchers/withArgs')
const { ethers, network } = require('hardhat')

describe('Counter', () => {
  let counter, signer

  before(async () => {
    ;[signer] = await ethers.getSigners()
    counter = await ethers.deployContract('Counter', [7n])
    await counter.waitForDeployment()
  })

  it('is deployed by the account of the configuration', async () => {
    expect(network.name).to.equal('openledger')
    expect(await counter.number()).to.equal(7n)
    expect(await counter.owner()).to.equal(signer.address)
    expect(await ethers.provider.getCode(counter)).to.not.equal('0x')
  })

  it('emits and changes state', async () => {
    const sent = await counter.increase(5n, 'five')
    await sent.wait() // the matcher asks for the receipt once; only hardhat's own chain has it at once
    await expect(sent).to.emit(counter, 'Increased').withArgs(signer.address, 12n, 'five')
    expect(await counter.number()).to.equal(12n)
  })

  it('reverts with a reason, whether called, estimated or sent', async () => {
    await expect(counter.increase.staticCall(0n, '')).to.be.revertedWith('nothing to add')
    await expect(counter.increase.estimateGas(0n, '')).to.be.revertedWith('nothing to add')
    await expect(counter.increase(0n, '')).to.be.revertedWith('nothing to add')
  })

  it('reverts with a custom error and its arguments', async () => {
    await expect(counter.increase(1000n, '')).to.be.revertedWithCustomError(counter, 'TooLarge').withArgs(1000n, 100n)
    await expect(counter.increase.staticCall(101n, ''))
      .to.be.revertedWithCustomError(counter, 'TooLarge')
      .withArgs(anyValue, 100n)
  })

  it('panics with a code', async () => {
    await expect(counter.divide(0n)).to.be.revertedWithPanic(0x12)
  })

  it('moves balances as the matchers see them', async () => {
    const stranger = ethers.Wallet.createRandom().address
    await expect(signer.sendTransaction({ to: stranger, value: 5n })).to.changeEtherBalance(stranger, 5n)
  })

  it('says why a sent transaction failed in its block', async () => {
    // With a gas limit given nothing is estimated, so that it is mined and fails there.
    const sent = await counter.increase(0n, '', { gasLimit: 100000n })
    await expect(sent.wait()).to.be.rejected
    await expect(sent).to.be.reverted
  })
})
