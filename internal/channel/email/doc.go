// Package email sends messages over an SMTP relay.
//
// Connections are pooled: at most so many at once, reused for so many messages,
// closed when idle, checked (RSET) before they are used again. A send that finds
// its kept connection closed goes on over a new one.
//
// It promises: text and HTML as multipart/alternative; a Message-ID that is the
// delivery's id, so that a repeat is recognised; threads by Message.Thread;
// headers that keep robots from answering (Auto-Submitted, Precedence) and let
// people leave with one click (List-Unsubscribe, List-Unsubscribe-Post, RFC
// 8058); a DKIM signature over all of them when a key is given. Whatever a
// message holds, it cannot add a header or a recipient. A password is never sent
// over a connection that is neither encrypted nor this machine's own, unless
// ?tls=none says so.
//
// A relay's 2xx is Accepted: it took the message over, and a bounce may still
// come. 4xx and broken connections are Retry, 5xx is Refused, 5xx for a mailbox
// that does not exist is Gone. Replies that speak of the session rather than of
// this message (greeting, TLS, log-in) are always Retry: an administrator can
// mend them.
//
// It refuses to look up MX records and to deliver to recipients' servers
// itself, which needs a reputation, a queue and a fixed address: a relay has them.
//
// Testing against it: emersion/go-smtp's server on a socket.
package email
