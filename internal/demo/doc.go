// Package demo is the show of belfry demo: a small school, furnished through the
// public API; the things that can happen in it (Scenes); a mail server and a
// webhook receiver that keep what they get (Catcher); and the page that shows
// it all. Show puts them together: give it to the server as its pages and to
// the configuration as the mail relay, then run it beside the server.
//
// It promises that nothing is pretended: mail comes over SMTP and webhooks over
// HTTP, on sockets of the loopback interface, signatures are verified, and the
// page publishes and reads through the public API. What it catches is kept in
// bounded memory and nowhere else.
//
// It refuses anything from outside this machine. Tests talk to it over its
// sockets.
package demo
