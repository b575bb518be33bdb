package testdb

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// process makes the server's attributes: under root it runs as the first of
// the users that exists, and it gets signal when this binary dies, so that
// nothing is orphaned.
func process(signal syscall.Signal, users ...string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Pdeathsig: signal}
	if os.Geteuid() != 0 {
		return attr, nil
	}
	cred, err := credential(users...)
	if err != nil {
		return nil, err
	}
	attr.Credential = cred
	return attr, nil
}

func credential(users ...string) (*syscall.Credential, error) {
	var last error
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			last = err
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, last
}

func owner(attr *syscall.SysProcAttr) (uid, gid int, ok bool) {
	if attr.Credential == nil {
		return 0, 0, false
	}
	return int(attr.Credential.Uid), int(attr.Credential.Gid), true
}

func copyCredential(to, from *syscall.SysProcAttr) { to.Credential = from.Credential }
