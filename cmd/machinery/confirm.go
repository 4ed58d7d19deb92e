package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// confirm returns nil if what was just shown is to be done: yes is set, or a
// person says so.
func (a *app) confirm(cmd *cobra.Command, yes bool) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(a.in.Fd())) {
		return usage(cmd, "say --yes to do that; there is no terminal to ask on")
	}
	if agreed, err := a.ask("Do that?"); err != nil || !agreed {
		return failed(errors.Join(errors.New("nothing was done"), err))
	}
	return nil
}

// ask asks a question on the terminal; everything but yes is no.
func (a *app) ask(question string) (bool, error) {
	fmt.Fprintf(a.out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
