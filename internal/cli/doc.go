// Package cli is what the commands that work on a running server do once their
// flags are read: publish, tail, explain, keys; and what serve and doctor have
// to say to whoever starts them.
//
// It promises two forms of every answer, words for people and JSON (one object
// a line where there are many), both on the writer it is given and nothing
// else; and errors in sentences that say what to do.
//
// It refuses to read flags, the environment or the clock's time zone: package
// main hands it values. It speaks to servers only through package client.
//
// Test it with a server and a buffer.
package cli
