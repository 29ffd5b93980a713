// A project as hardhat's users have it, whose network is our node. The artifact is compiled already: no compiler is fetched.
require('@nomicfoundation/hardhat-ethers')
require('@nomicfoundation/hardhat-chai-matchers')

module.exports = {
  solidity: '0.8.37',
  defaultNetwork: 'openledger',
  networks: { openledger: { url: process.env.NODE_URL, accounts: [process.env.PRIVATE_KEY] } },
  paths: { artifacts: process.env.ARTIFACTS, cache: process.env.ARTIFACTS },
}
