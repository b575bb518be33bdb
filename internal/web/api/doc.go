// Package api is the HTTP surface for programs: the calls under /v1, the pages
// for those who hold a link of a message (unsubscribe, why, acknowledge, confirm),
// health, the OpenAPI description and its browser.
// It turns requests into calls of the rooms that know (ingest, manage, the
// pipeline's explainer, reads of the store) and their answers into JSON; it
// decides nothing about subscriptions or people itself.
//
// It promises: every answer that is not a success is an RFC 9457 problem with
// a stable type (docs/errors.md) and a pointer for every fault; unknown fields
// are refused by name; bodies are bounded before they are read; nobody learns
// from 401, 403 or 404 what exists in another tenant; a panic is one 500 and
// one log line, never the process; every request leaves one log line with its
// id, which the answer carries too; and /openapi.json describes exactly the
// routes that are served, since both are made of one registration.
//
// It refuses cross-origin reads, cookies, secrets in answers (but for those a
// call has just made, once), and to do what a link offers on a GET.
//
// Tests run it on a real socket with the real store, ingest and manage behind
// it. The interfaces in services.go are all that it needs of the house.
package api
