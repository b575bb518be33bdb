// Package channel is the contract between Belfry and the ways out: e-mail,
// webhook, text message, chat. A Kind describes a way out and its settings as
// data; New opens it as a Sender; a Sender sends one Message to one Target and
// answers with one Outcome.
//
// Promises every Sender keeps (package channeltest checks them):
//
//   - Send returns soon after ctx is done, whatever the peer does, and every
//     wait inside it is bounded even when ctx has no deadline;
//   - Send never panics and never lets the content of a message or a target
//     become protocol (header injection, request splitting), however hostile;
//   - Outcome.Detail is valid UTF-8 of one line, at most MaxDetail bytes, and
//     holds no secret: no password, no signing key, no credential of a URL;
//   - a peer's trouble is OutcomeRetry, never an error that stops the caller:
//     Refused and Gone are only said when the peer itself said so for good, or
//     when the message can never be sent over this channel at all;
//   - Send is safe for concurrent use and never writes to Target or Message.
//     They are values: nobody changes them after they were handed over, for a
//     transport may still be reading a body when the peer answered early;
//   - Close is idempotent, waits for no peer longer than a few seconds, and
//     leaves no goroutine; Send after Close is OutcomeRetry.
//
// A Sender refuses to decide: whether, when and to whom something is sent is
// settled before it is asked, and when to try again is the pipeline's retry
// policy (a Sender only passes on what the destination asked for).
//
// Testing against it: hand-written fakes of Sender are three lines; adapters
// run channeltest.Run against a real socket.
package channel
