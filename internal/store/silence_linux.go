package store

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenWell has the system end a connection on which what was sent is not
// acknowledged for as long as silence.
func listenWell(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
