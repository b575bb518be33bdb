package email

import (
	"context"
	"errors"
	"io"
	"net"
	"net/textproto"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/outbound"
)

// maxSend bounds a send whose context has no deadline.
const maxSend = 2 * time.Minute

// sender sends mail over one relay.
type sender struct {
	cfg    *config
	pool   *pool
	now    func() time.Time
	hidden []string
}

func newSender(d channel.Deps, cfg *config) *sender {
	return &sender{cfg: cfg, pool: newPool(cfg, d.Dialer), now: d.Now, hidden: cfg.secrets()}
}

// Close says goodbye on idle connections; those in use go with their sends.
func (s *sender) Close() error {
	s.pool.close()
	return nil
}

// Send hands m to the relay for target.Address.
func (s *sender) Send(ctx context.Context, target channel.Target, m *belfry.Message) belfry.Outcome {
	l, err := s.cfg.compose(target, m, s.now())
	if err != nil {
		return belfry.Outcome{Kind: belfry.OutcomeRefused, Detail: s.detail(err.Error())}
	}
	ctx, cancel := context.WithTimeout(ctx, maxSend)
	defer cancel()
	if err := s.pool.acquire(ctx); err != nil {
		return s.judge(err)
	}
	defer s.pool.release()
	c := s.pool.kept(ctx)
	if c != nil {
		out, again := s.over(ctx, c, l)
		if !again {
			return out
		}
	}
	if c, err = s.pool.dial(ctx); err != nil {
		return s.judge(err)
	}
	out, _ := s.over(ctx, c, l)
	return out
}

// over sends l over c and keeps or drops c. again is true when the relay had
// closed the connection before it was asked anything about this message.
func (s *sender) over(ctx context.Context, c *conn, l *letter) (out belfry.Outcome, again bool) {
	used := c.sent > 0
	stage := atMail
	said := ""
	err := c.during(ctx, func() (err error) {
		stage, said, err = c.transact(l)
		return err
	})
	c.sent++
	var reply *textproto.Error
	isReply := errors.As(err, &reply)
	if err == nil || isReply && reply.Code != 421 {
		c.clean = err == nil
		s.pool.put(c)
	} else {
		c.drop()
	}
	if err == nil {
		return belfry.Outcome{Kind: belfry.OutcomeAccepted, Status: 250, Detail: s.detail(said)}, false
	}
	if used && stage == atMail && ctx.Err() == nil && (!isReply || reply.Code == 421) {
		return out, true
	}
	return s.judge(&stageError{stage, err}), false
}

// stage is how far a transaction came.
type stage int

const (
	atMail stage = iota
	atRecipient
	atData
	atEnd // all is sent, the answer is awaited
)

var stageNames = [...]string{"the sender", "the recipient", "the message", "the message"}

// stageError is an error of a transaction.
type stageError struct {
	at  stage
	err error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

var errNoUTF8 = &textproto.Error{Code: 553, Msg: "5.6.7 the relay cannot carry addresses with letters beyond ASCII"}

// transact is MAIL, RCPT, DATA. It answers how far it came and what the relay
// said last.
func (c *conn) transact(l *letter) (stage, string, error) {
	if ok, _ := c.smtp.Extension("SMTPUTF8"); l.utf8 && !ok {
		return atRecipient, "", errNoUTF8
	}
	// Asked for without need, it makes the next relay's support a condition.
	c.smtp.SkipSMTPUTF8(!l.utf8)
	if err := c.smtp.Mail(l.from); err != nil {
		return atMail, "", err
	}
	if err := c.smtp.Rcpt(l.to); err != nil {
		return atRecipient, "", err
	}
	w, err := c.smtp.Data()
	if err != nil {
		return atData, "", err
	}
	if _, err := w.Write(l.raw); err != nil {
		return atData, "", err
	}
	if err := w.Close(); err != nil {
		return atEnd, "", err
	}
	said := ""
	if r, ok := w.(interface{ ServerResponse() string }); ok {
		said = r.ServerResponse()
	}
	return atEnd, said, nil
}

func (s *sender) detail(text string) string { return channel.Detail(text, s.hidden...) }

// judge says what an error means for the delivery.
func (s *sender) judge(err error) belfry.Outcome {
	out := belfry.Outcome{Kind: belfry.OutcomeRetry}
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		out.Detail = s.detail(s.explain(err))
		return out
	}
	out.Status = reply.Code
	out.Throttled = reply.Code == 421 || reply.Code == 450 || reply.Code == 451
	words := reply.Error()
	var in *stageError
	var session *sessionError
	switch {
	case errors.As(err, &session):
		out.Detail = s.detail(session.what + ": " + words)
		return out
	case !errors.As(err, &in):
		out.Detail = s.detail(words)
		return out
	}
	out.Detail = s.detail("the relay refuses " + stageNames[in.at] + ": " + words)
	switch {
	case reply.Code < 500 || reply.Code > 599:
	case reply.Code == 503, reply.Code == 530, reply.Code == 535, reply.Code == 538:
		// Of the session: out of order, not logged in.
	case in.at != atMail && isUnknown(reply):
		out.Kind = belfry.OutcomeGone
	default:
		out.Kind = belfry.OutcomeRefused
	}
	return out
}

// enhanced is an enhanced status code (RFC 3463) at the beginning of a reply.
var enhanced = regexp.MustCompile(`^([245]\.\d{1,3}\.\d{1,3})(?:[ \n]|$)`)

// unknown are the words of relays that give no enhanced code.
var unknown = regexp.MustCompile(`(?i)\b(user unknown|unknown (user|recipient|mailbox|address)|no such (user|recipient|mailbox|person|address)|(user|mailbox|recipient|account|address)( \S+)? (not found|does not exist|doesn't exist|unknown)|not a known user|invalid (mailbox|recipient))\b`)

// isUnknown reports whether a permanent reply says that the mailbox does not
// exist. The enhanced code decides where there is one.
func isUnknown(reply *textproto.Error) bool {
	if m := enhanced.FindStringSubmatch(strings.TrimSpace(reply.Msg)); m != nil {
		switch m[1] {
		case "5.1.1", // bad destination mailbox
			"5.1.6",  // moved, no forwarding address
			"5.1.10": // its domain accepts no mail
			return true
		}
		return false
	}
	switch reply.Code {
	case 550, 551, 553, 554:
		return unknown.MatchString(reply.Msg)
	}
	return false
}

// explain says in words for an administrator why there was no reply.
func (s *sender) explain(err error) string {
	var refused *outbound.Refused
	var dns *net.DNSError
	var session *sessionError
	switch {
	case errors.Is(err, errClosed):
		return errClosed.Error()
	case errors.Is(err, errBusy):
		return errBusy.Error()
	case errors.As(err, &refused):
		return "the relay " + s.cfg.address + ": " + refused.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "the relay " + s.cfg.address + " did not answer in time"
	case errors.Is(err, context.Canceled):
		return "the send was interrupted"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the relay's host name " + dns.Name + " is not known"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection to the relay " + s.cfg.address + " refused: nothing listens there"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the relay closed the connection"
	case errors.As(err, &session):
		return session.Error()
	}
	return "the relay: " + err.Error()
}
