// Package outbound makes the one guarded client for everything that leaves:
// webhooks, HTTP providers, platform calls, and, through its Dialer, protocols
// that are not HTTP.
//
// It promises: no connection to a private, loopback, link-local, metadata,
// multicast or otherwise special address, however the name resolves at that
// moment (the address really dialled is checked, so DNS rebinding does not
// help), unless the operator allowed its CIDR; no proxy; no redirect followed;
// bounded time to connect, to shake hands and to answer; bounded headers;
// connections kept warm per host. A refusal is a *Refused that says which
// address and which setting allows it.
//
// Plain HTTP goes over HTTP/1.1 on the caller's goroutine (see direct), TLS by
// net/http's Transport and in HTTP/2 where the peer speaks it.
//
// It refuses to retry, but for a request that met a kept connection as the peer
// closed it and may be repeated, to log and to know what is sent.
//
// Testing against it: allow 127.0.0.0/8 and ::1/128 and use real servers.
package outbound
