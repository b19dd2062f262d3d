// A server with the SDK as its documentation sets it up: all settings come from the environment. It listens on 127.0.0.1:$PORT
// until SIGTERM; each request makes a span, a log and a count.
const { metrics } = require('@opentelemetry/api');
const { logs, SeverityNumber } = require('@opentelemetry/api-logs');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { NodeSDK } = require('@opentelemetry/sdk-node');

const sdk = new NodeSDK({ serviceName: 'server', instrumentations: [new HttpInstrumentation()] });
sdk.start();

// Required here, where its instrumentation sees it.
const http = require('node:http');
const views = metrics.getMeter('server').createCounter('server.views', { unit: '{view}' });
const server = http.createServer((request, response) => {
  views.add(1);
  logs.getLogger('server').emit({ severityNumber: SeverityNumber.INFO, body: `asked for ${request.url}` });
  response.end();
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.on('SIGTERM', async () => {
  server.close();
  server.closeAllConnections();
  await sdk.shutdown();
  process.exit(0);
});
