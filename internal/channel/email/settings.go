package email

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"github.com/belfryhq/belfry/internal/channel"
)

// Names of the settings.
const (
	settingURL         = "url"
	settingFrom        = "from"
	settingReplyTo     = "reply_to"
	settingDomains     = "from_domains"
	settingReturnPath  = "return_path"
	settingCA          = "ca"
	settingDKIMKey     = "dkim_key"
	settingDKIMSel     = "dkim_selector"
	settingDKIMDomain  = "dkim_domain"
	settingConnections = "connections"
	settingPerConn     = "messages_per_connection"
	settingIdle        = "idle"
	settingHello       = "hello"
)

// Kind describes the channel.
func Kind() channel.Kind {
	return channel.Kind{
		Name:    "email",
		Title:   "E-mail (SMTP)",
		Help:    "Sends through your mail relay.",
		Contact: "email",
		Settings: []channel.Setting{
			{Name: settingURL, Label: "Relay", Type: channel.TypeURL, Secret: true, Required: true,
				Help: "smtp://user:password@host:587 uses STARTTLS when the relay offers it, ?tls=required insists, ?tls=none never does; smtps://host:465 is TLS from the start."},
			{Name: settingFrom, Label: "From", Type: channel.TypeEmail, Required: true, Help: `Sender of all mail, such as "School" <notices@school.example>.`},
			{Name: settingReplyTo, Label: "Reply-To", Type: channel.TypeEmail, Help: "Where answers go; empty = to the sender."},
			{Name: settingDomains, Label: "Other sender domains", Type: channel.TypeText, Help: "Domains besides that of From, with blanks between, of which subscriptions, objects and tenants may name a sender, and for which this relay may send (SPF, DKIM). Of another domain a sender's name is shown and answers go there, but the address stays From."},
			{Name: settingReturnPath, Label: "Return path", Type: channel.TypeEmail, Help: "Where bounces go; empty = to the sender."},
			{Name: settingCA, Label: "Certificate authority", Type: channel.TypeLong, Help: "PEM certificates that the relay's may be signed by, besides the system's: for a relay with a certificate of your own."},
			{Name: settingDKIMKey, Label: "DKIM key", Type: channel.TypeLong, Secret: true, Help: "Private key in PEM (RSA or Ed25519); empty = mail is not signed here."},
			{Name: settingDKIMSel, Label: "DKIM selector", Type: channel.TypeText, Help: "The public key is at <selector>._domainkey.<domain>."},
			{Name: settingDKIMDomain, Label: "DKIM domain", Type: channel.TypeText, Help: "Empty = the sender's domain."},
			{Name: settingConnections, Label: "Connections", Type: channel.TypeNumber, Default: "8", Help: "Connections to the relay at once, 1 to 100."},
			{Name: settingPerConn, Label: "Messages per connection", Type: channel.TypeNumber, Default: "100", Help: "A connection is closed after so many."},
			{Name: settingIdle, Label: "Idle time", Type: channel.TypeDuration, Default: "30s", Help: "A connection that is not used for so long is closed."},
			{Name: settingHello, Label: "Name in HELO", Type: channel.TypeText, Help: "Empty = this machine's name."},
		},
		New: func(d channel.Deps, values map[string]string) (channel.Sender, error) {
			cfg, err := parse(values)
			if err != nil {
				return nil, err
			}
			return newSender(d, cfg), nil
		},
	}
}

// Policies of TLS in the URL's tls parameter, for smtp: addresses.
const (
	tlsOpportunistic = "opportunistic"
	tlsRequired      = "required"
	tlsNone          = "none"
)

// config is the settings, understood.
type config struct {
	host, address  string // address is host:port
	user, password string
	implicitTLS    bool // smtps:
	tls            string
	roots          *x509.CertPool // nil = the system's

	from       *netmail.Address // with an ASCII domain
	domain     string           // of from: in Message-ID and List-Id
	replyTo    *netmail.Address
	domains    []string // that senders may be of
	returnPath string

	dkimKey      crypto.Signer // nil = unsigned
	dkimDomain   string
	dkimSelector string

	connections int
	perConn     int
	idle        time.Duration
	hello       string
}

func parse(values map[string]string) (*config, error) {
	v, err := channel.Read(Kind().Settings, values)
	if err != nil {
		return nil, err
	}
	var faults channel.Faults
	fault := faults.Add
	c := &config{}
	if msg := c.readURL(v[settingURL]); msg != "" {
		fault(settingURL, "%s", msg)
	}
	address := func(name string) *netmail.Address {
		if v[name] == "" {
			return nil
		}
		a, err := netmail.ParseAddress(v[name])
		if err == nil {
			a.Address, err = normal(a.Address)
		}
		if err != nil {
			fault(name, "%s", err)
			return nil
		}
		a.Name = line(a.Name, maxName)
		return a
	}
	c.from, c.replyTo = address(settingFrom), address(settingReplyTo)
	if c.from != nil {
		c.domain = c.from.Address[strings.LastIndexByte(c.from.Address, '@')+1:]
		c.returnPath = c.from.Address
	}
	c.domains = []string{c.domain}
	for d := range strings.FieldsSeq(strings.ReplaceAll(v[settingDomains], ",", " ")) {
		ascii, err := idna.Lookup.ToASCII(d)
		if err != nil || !isDomain(ascii) {
			fault(settingDomains, "%q is no domain such as school.example", d)
		}
		c.domains = append(c.domains, strings.ToLower(ascii))
	}
	if a := address(settingReturnPath); a != nil {
		c.returnPath = a.Address
	}
	if pem := v[settingCA]; pem != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(pem)) {
			fault(settingCA, "must hold certificates in PEM (-----BEGIN CERTIFICATE-----)")
		}
		c.roots = roots
	}
	c.readDKIM(v, fault)
	number := func(name string, least, most int) int {
		n, err := strconv.Atoi(v[name])
		if err != nil || n < least || n > most {
			fault(name, "must be from %d to %d", least, most)
		}
		return n
	}
	c.connections = number(settingConnections, 1, 100)
	c.perConn = number(settingPerConn, 1, 1_000_000)
	c.idle, _ = time.ParseDuration(v[settingIdle]) // Validate has read it
	c.hello = v[settingHello]
	if c.hello == "" {
		c.hello = hostName(c.domain)
	} else if !isDomain(c.hello) {
		fault(settingHello, "must be a host name such as belfry.school.example")
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// readURL reads the relay's address; the answer is empty or what is wrong with
// it, without repeating it.
func (c *config) readURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "must be such as smtp://user:password@host:587; special characters of the password must be percent-encoded"
	}
	port := "25"
	switch u.Scheme {
	case "smtp":
		c.tls = tlsOpportunistic
		if u.User != nil {
			port = "587"
		}
	case "smtps":
		c.implicitTLS, c.tls, port = true, tlsRequired, "465"
	default:
		return "must begin with smtp:// or smtps://"
	}
	if u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return "must end after the port; a special character of the password must be percent-encoded"
	}
	for key, vals := range u.Query() {
		if key != "tls" {
			return fmt.Sprintf("has the parameter %q; only tls is known", key)
		}
		switch mode := vals[len(vals)-1]; {
		case c.implicitTLS:
			return "has the parameter tls, which smtps:// does not need: it is TLS from the start"
		case mode == tlsOpportunistic, mode == tlsRequired, mode == tlsNone:
			c.tls = mode
		default:
			return "must have opportunistic, required or none as its parameter tls"
		}
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "must have a port from 1 to 65535"
	}
	c.host = u.Hostname()
	if c.host == "" {
		return "must name a host"
	}
	c.address = net.JoinHostPort(c.host, port)
	if u.User != nil {
		c.user = u.User.Username()
		c.password, _ = u.User.Password()
		if c.user == "" || c.password == "" {
			return "must have both a user and a password, or neither"
		}
		if strings.ContainsAny(c.user+c.password, "\x00\r\n") {
			return "must not have control characters in user or password"
		}
	}
	return ""
}

func (c *config) readDKIM(v map[string]string, fault func(name, format string, args ...any)) {
	if v[settingDKIMKey] == "" {
		for _, name := range []string{settingDKIMSel, settingDKIMDomain} {
			if v[name] != "" {
				fault(name, "is of no use without %s", settingDKIMKey)
			}
		}
		return
	}
	key, err := mail.PrivKeyFromPEM([]byte(v[settingDKIMKey]))
	if err != nil {
		fault(settingDKIMKey, "must be an RSA or Ed25519 private key in PEM (-----BEGIN PRIVATE KEY-----)")
	} else if k, ok := key.(*rsa.PrivateKey); ok && k.N.BitLen() < 1024 {
		fault(settingDKIMKey, "has %d bits; receivers want 1024 at least, better 2048", k.N.BitLen())
	}
	c.dkimKey, c.dkimSelector, c.dkimDomain = key, v[settingDKIMSel], v[settingDKIMDomain]
	if c.dkimDomain == "" {
		c.dkimDomain = c.domain
	} else if d, err := idna.Lookup.ToASCII(c.dkimDomain); err != nil || !isDomain(d) {
		fault(settingDKIMDomain, "must be a domain such as school.example")
	} else {
		c.dkimDomain = d
	}
	if !isDomain(c.dkimSelector) {
		fault(settingDKIMSel, "is needed with a key: the name under _domainkey where the public key is, such as belfry")
	}
}

// secrets are the texts that no Detail may hold.
func (c *config) secrets() []string {
	if c.password == "" {
		return nil
	}
	b64 := base64.StdEncoding.EncodeToString
	return []string{
		b64([]byte("\x00" + c.user + "\x00" + c.password)),
		b64([]byte(c.password)), url.QueryEscape(c.password), url.PathEscape(c.password), c.password,
	}
}

// hostName is what this machine calls itself, when that is a full name, else
// fallback.
func hostName(fallback string) string {
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") && isDomain(name) {
		return name
	}
	if fallback == "" {
		return "localhost"
	}
	return fallback
}
