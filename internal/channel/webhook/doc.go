// Package webhook sends messages to endpoints by HTTP POST under the Standard
// Webhooks rules: headers webhook-id (the delivery's id, the same on every
// try), webhook-timestamp (of the try) and webhook-signature (v1 HMAC-SHA256
// or v1a ed25519, one for each key that is valid, so that keys rotate with
// overlap).
//
// It promises: 2xx is delivered, 410 is gone, everything else is tried again;
// 429 and 503 are throttling; Retry-After is passed on, at most a day; a
// redirect is a failure and never followed; no more than a few KiB of an answer
// are read; every send ends within the endpoint's time-out; headers of the
// endpoint never replace ours. A request whose kept connection turns out to be
// closed goes out again at once on another one, under the same id.
//
// It refuses to know schedules, health and rates: they are the pipeline's.
// Which addresses may be reached is decided by the client it is given.
//
// Testing against it: an httptest server and a client that may reach it.
package webhook
