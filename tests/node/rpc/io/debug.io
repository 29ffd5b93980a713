// get-witness-invalid-block, get-witness-genesis, get-witness-pending
>> {"jsonrpc":"2.0","id":1,"method":"debug_executionWitness","params":["0xfffffffff"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block 0xfffffffff not found"}}
>> {"jsonrpc":"2.0","id":2,"method":"debug_executionWitness","params":["0x0"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"block 0x0 found, but parent missing"}}
>> {"jsonrpc":"2.0","id":3,"method":"debug_executionWitness","params":["pending"]}
<< {"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"pending block has no witness"}}

// trace-block-not-found, trace-unknown-tx, calltracer-invalid-block: each names what it did not find in its own way
>> {"jsonrpc":"2.0","id":1,"method":"debug_traceBlockByHash","params":["0x0000000000000000000000000000000000000000000000000000000000000001"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block 0x0000000000000000000000000000000000000000000000000000000000000001 not found"}}
>> {"jsonrpc":"2.0","id":2,"method":"debug_traceTransaction","params":["0x0000000000000000000000000000000000000000000000000000000000000001"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"transaction not found"}}
>> {"jsonrpc":"2.0","id":3,"method":"debug_traceCall","params":[{"to":"0x9dcd17433742f4c0ca53122ab541d0ba67fc27d1"},"0xfffffffff",{"tracer":"callTracer"}]}
<< {"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"block #68719476735 not found"}}

// trace-genesis: there is no state before it
>> {"jsonrpc":"2.0","id":1,"method":"debug_traceBlockByNumber","params":["0x0"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"genesis is not traceable"}}

// a number or hash without its 0x
>> {"jsonrpc":"2.0","id":1,"method":"debug_traceBlockByNumber","params":["3"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602}}
>> {"jsonrpc":"2.0","id":2,"method":"debug_getRawReceipts","params":["2"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32602}}
>> {"jsonrpc":"2.0","id":3,"method":"debug_getRawTransaction","params":["1000000000000000000000000000000000000000000000000000000000000001"]}
<< {"jsonrpc":"2.0","id":3,"error":{"code":-32602}}

// get-notfound-tx, get-genesis of receipts
>> {"jsonrpc":"2.0","id":1,"method":"debug_getRawTransaction","params":["0x00000000000000000000000000000000000000000000000000000000deadbeef"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
>> {"jsonrpc":"2.0","id":2,"method":"debug_getRawReceipts","params":["0x0"]}
<< {"jsonrpc":"2.0","id":2,"result":[]}

// trace-call-omitted-block: at the head, without words for what the stack does not hold
>> {"jsonrpc":"2.0","id":1,"method":"debug_traceCall","params":[{"input":"0x60ee6000526001601ff3","gas":"0x100000"}]}
<< {"jsonrpc":"2.0","id":1,"result":{"failed":false,"structLogs":[{"pc":0,"op":"PUSH1","gasCost":3,"depth":1,"stack":[]},{"pc":2,"op":"PUSH1","stack":["0xee"]},{"pc":4,"op":"MSTORE","gasCost":6,"stack":["0xee","0x0"]},{"pc":5,"op":"PUSH1","stack":[]},{"pc":7,"op":"PUSH1","stack":["0x1"]},{"pc":9,"op":"RETURN","gasCost":0,"stack":["0x1","0x1f"]}]}}

// filter-error-fully-future-block-range, filter-error-future-block-to-latest
>> {"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x38","toBlock":"0x3a"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"block range extends beyond current head block"}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getLogs","params":[{"fromBlock":"0x38","toBlock":"latest"}]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"invalid block range params"}}

// get-transaction-receipt and get-header of what is not there
>> {"jsonrpc":"2.0","id":1,"method":"eth_getHeaderByNumber","params":["0x3e8"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getHeaderByNumber","params":["pending"]}
<< {"jsonrpc":"2.0","id":2,"result":null}
