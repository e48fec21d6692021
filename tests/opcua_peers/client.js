// An OPC UA client for the tests: node-opcua. Orders come as lines of JSON, answers and notices go out as lines.
// The same orders as client.py: one test body drives both.
"use strict";
console.log = console.warn = console.error; // what the library logs is no answer
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const opcua = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

const OWN = "urn:edge-inspect";
const VISION = "http://opcfoundation.org/UA/MachineVision";
const KINDS = { uint16: "UInt16", uint32: "UInt32", int32: "Int32", string: "String", text: "LocalizedText" };
let client, session, subscription, namespaces, folder;

const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const id = (name) => `ns=${namespaces.indexOf(OWN)};s=${name}`;

function plain(value) {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value, plain);
  if (value instanceof opcua.Variant) return plain(value.value);
  if (value instanceof opcua.NodeId) return value.toString();
  if (value instanceof opcua.LocalizedText) return value.text;
  if (value instanceof opcua.StatusCode) return value.name;
  if (typeof value !== "object") return value;
  const fields = Object.entries(value).filter(([name]) => !/^(schema|_|bitField)/.test(name));
  return Object.fromEntries(fields.map(([name, each]) => [name[0].toUpperCase() + name.slice(1), plain(each)]));
}

async function argument(given) {
  const [kind, value, type] = given;
  if (kind === "variants") return { dataType: "Variant", arrayType: "Array", value: [] };
  if (kind !== "struct") return { dataType: KINDS[kind], value: kind === "text" ? { text: value } : value };
  const dataType = opcua.coerceNodeId(`ns=${namespaces.indexOf(VISION)};i=${type}`);
  return { dataType: "ExtensionObject", value: await session.constructExtensionObject(dataType, { id: value }) };
}

const orders = {
  async connect({ url, secure, user, password }) {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "opcua-peer-"));
    const certificates = new OPCUACertificateManager({
      rootFolder: folder, automaticallyAcceptUnknownCertificate: true,
    });
    await certificates.initialize();
    client = opcua.OPCUAClient.create({
      clientCertificateManager: certificates, endpointMustExist: false,
      connectionStrategy: { maxRetry: 0, initialDelay: 100 },
      securityMode: secure ? opcua.MessageSecurityMode.SignAndEncrypt : opcua.MessageSecurityMode.None,
      securityPolicy: secure ? opcua.SecurityPolicy.Basic256Sha256 : opcua.SecurityPolicy.None,
    });
    await client.connect(url);
    const who = user ? { type: opcua.UserTokenType.UserName, userName: user, password } : { type: opcua.UserTokenType.Anonymous };
    session = await client.createSession(who);
    namespaces = await session.readNamespaceArray();
    return {};
  },
  async read({ nodes }) {
    const values = await session.read(nodes.map((name) => ({ nodeId: id(name), attributeId: opcua.AttributeIds.Value })));
    return { values: values.map((each) => (each.statusCode.isGood() ? plain(each.value) : each.statusCode.name)) };
  },
  async write({ node, value }) {
    const code = await session.write({
      nodeId: id(node), attributeId: opcua.AttributeIds.Value, value: { value: { dataType: "UInt16", value } },
    });
    return { status: code.name };
  },
  async browse({ node }) {
    const found = await session.browse(id(node));
    return { names: found.references.map((each) => each.browseName.name) };
  },
  async call({ object, method, arguments: given }) {
    const inputArguments = await Promise.all(given.map(argument));
    const answer = await session.call({ objectId: id(object), methodId: id(`${object}.${method}`), inputArguments });
    return { status: answer.statusCode.name, outputs: (answer.outputArguments || []).map(plain) };
  },
  async watch({ nodes, fields }) {
    subscription = await session.createSubscription2({
      requestedPublishingInterval: 50, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 20, publishingEnabled: true,
    });
    for (const name of nodes) {
      const item = await subscription.monitor(
        { nodeId: id(name), attributeId: opcua.AttributeIds.Value },
        { samplingInterval: 0, queueSize: 100, discardOldest: true }, opcua.TimestampsToReturn.Both);
      item.on("changed", (data) => say({ seen: name, value: plain(data.value) }));
    }
    if (fields) {
      const filter = opcua.constructEventFilter(["EventType", ...fields.map((name) => `${namespaces.indexOf(VISION)}:${name}`)]);
      const item = await subscription.monitor(
        { nodeId: "i=2253", attributeId: opcua.AttributeIds.EventNotifier },
        { samplingInterval: 0, queueSize: 100, discardOldest: true, filter }, opcua.TimestampsToReturn.Both);
      item.on("changed", ([type, ...values]) => say({
        event: type.value.toString(), fields: Object.fromEntries(fields.map((name, at) => [name, plain(values[at])])),
      }));
    }
    return {};
  },
  async close() {
    if (subscription) await subscription.terminate();
    if (session) await session.close();
    if (client) await client.disconnect();
    if (folder) fs.rmSync(folder, { recursive: true, force: true });
    return {};
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
      say({ answer: await orders[order.do](order) });
    } catch (error) {
      say({ error: String(error.message || error) });
    }
    if (order.do === "close") process.exit(0);
  }
  process.exit(0);
})();
