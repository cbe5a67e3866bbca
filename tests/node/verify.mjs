// Twilio's own Node SDK, unchanged, against the service: one line points it there. Driven by tests/test_twilio_node.py,
// which answers this script's questions about the codes that were sent and about the clock.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.TWILIO_AT);
const twilio = require("twilio");

const { URL_HERE, ACCOUNT, KEY, SERVICE, PHONE, OTHER } = process.env;
const client = twilio(ACCOUNT, KEY);
client.verify.baseUrl = URL_HERE;
const verify = client.verify.v2;
const service = verify.services(SERVICE);

// Standard input and output are the line to the test.
const lines = (await import("node:readline")).createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (question) => {
  process.stdout.write(`${question}\n`);
  return (await lines.next()).value;
};
const refused = async (promise, status, code) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.constructor.name, "RestException");
    assert.deepEqual([error.status, error.code], [status, code]);
    return true;
  });

const made = await service.verifications.create({ to: PHONE, channel: "sms" });
assert.deepEqual([made.status, made.valid, made.to, made.channel], ["pending", false, PHONE, "sms"]);
assert.ok(made.dateCreated instanceof Date);
await refused(service.verifications.create({ to: PHONE, channel: "call" }), 429, 20429);
await ask("advance 31");
const again = await service.verifications.create({ to: PHONE, channel: "call", rateLimits: {} });
assert.deepEqual([again.sid, again.channel, again.sendCodeAttempts.length], [made.sid, "call", 2]);
assert.equal((await service.verifications(PHONE).fetch()).sid, made.sid);
const wrong = await service.verificationChecks.create({ to: PHONE, code: await ask("wrong voice") });
assert.deepEqual([wrong.status, wrong.valid], ["pending", false]);
const right = await service.verificationChecks.create({ verificationSid: made.sid, code: await ask("code voice") });
assert.deepEqual([right.status, right.valid, right.to], ["approved", true, PHONE]);
await refused(service.verificationChecks.create({ to: PHONE, code: "123456" }), 404, 20404);
await refused(service.verificationChecks.create({ code: "123456" }), 400, 60221);
await refused(service.verifications.create({ to: "nonsense", channel: "sms" }), 400, 60200);

// Node's autoRetry repeats every 429 at once: a refused send must not count, nor prolong anything.
const impatient = twilio(ACCOUNT, KEY, { autoRetry: true, maxRetries: 3 });
impatient.verify.baseUrl = URL_HERE;
await service.verifications.create({ to: OTHER, channel: "sms" });
await refused(impatient.verify.v2.services(SERVICE).verifications.create({ to: OTHER, channel: "sms" }), 429, 20429);
await ask("advance 30");
assert.equal((await service.verifications.create({ to: OTHER, channel: "sms" })).sendCodeAttempts.length, 2);
assert.equal((await service.verifications(OTHER).update({ status: "canceled" })).status, "canceled");

const mine = await verify.services.create({ friendlyName: "My App", codeLength: 8 });
assert.equal((await verify.services(mine.sid).update({ friendlyName: "Other" })).friendlyName, "Other");
const listed = await verify.services.list({ pageSize: 1 });
assert.deepEqual(listed.map((item) => item.friendlyName).sort(), ["Other", "Shop"]);
const limit = await verify.services(mine.sid).rateLimits.create({ uniqueName: "ip" });
const bucket = await verify.services(mine.sid).rateLimits(limit.sid).buckets.create({ max: 1, interval: 60 });
assert.equal(bucket.max, 1);
assert.equal(await verify.services(mine.sid).rateLimits(limit.sid).remove(), true);
assert.equal(await verify.services(mine.sid).remove(), true);
await refused(verify.services(mine.sid).fetch(), 404, 20404);

const attempts = await verify.verificationAttempts.list({ "channelData.to": PHONE, channelDataTo: PHONE });
assert.deepEqual(attempts.map((item) => item.channel), ["call", "sms"]);
assert.equal((await verify.verificationAttemptsSummary().fetch()).totalConverted, 2);

const entity = service.entities("user-0001-abcd");
const factor = await entity.newFactors.create({ friendlyName: "phone", factorType: "totp" });
const verified = await entity.factors(factor.sid).update({ authPayload: await ask(`totp ${factor.binding.secret}`) });
assert.equal(verified.status, "verified");
const login = await entity.challenges.create({
  factorSid: factor.sid,
  authPayload: await ask(`totp ${factor.binding.secret}`),
});
assert.equal(login.status, "approved");
assert.equal(await entity.factors(factor.sid).remove(), true);

const stranger = twilio(ACCOUNT, "wrong");
stranger.verify.baseUrl = URL_HERE;
await refused(stranger.verify.v2.services.list(), 401, 20003);
process.stdout.write("done\n");
process.exit(0);
