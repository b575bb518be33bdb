// Package demo is a small school to show Belfry with: its people, courses and
// subscriptions as values (School), the things that can happen in it (Scenes),
// a mail server and a webhook receiver that keep what they get (Catcher), and
// a client of the HTTP API for the page of the demonstration (Client).
//
// It promises that nothing is pretended: mail comes over SMTP and webhooks over
// HTTP, on sockets of the loopback interface, signatures are verified, and the
// page publishes and reads through the public API. What it catches is kept in
// bounded memory and nowhere else.
//
// It refuses anything from outside this machine. Tests talk to it over its
// sockets.
package demo
