// Package script runs a program of the operator's for an event, or for each
// recipient of one. A channel of this kind is one program; only the server's
// configuration sets such channels up, and subscriptions name them.
//
// It promises: no shell; the program and its arguments are exactly those of the
// configuration, and nothing of an event is among them; the message is JSON on
// standard input; the environment is what the configuration says and nothing
// else; it runs as a user of its own where one is configured; time and output
// are bounded, and whatever exceeds them is killed with all processes of its
// group. What a program leaves running in its group when it ends is killed too.
//
// Exit 0 is Delivered, with the first output as detail. Exit 64 and 65
// (EX_USAGE, EX_DATAERR) and too much output are Refused: they would come again.
// Every other end, a time-out among them, is Retry.
//
// It refuses to run on systems without process groups.
//
// Testing against it: any program; its own tests run themselves.
package script
