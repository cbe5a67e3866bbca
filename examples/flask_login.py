"""A second factor after the password with Flask: `flask --app flask_login run`, configured by OTPVOICE_…."""

import os

from flask import Flask, request, session

import otpvoice

app = Flask(__name__)
app.secret_key = os.environ["SESSION_KEY"]


@app.post("/second-factor")  # After the password was right: the account and its number are in the session.
def call_me() -> dict[str, str | None]:
    challenge = otpvoice.issue_code(session["phone"], purpose="login", subject=session["account"])
    session["challenge"] = challenge.id
    return {"called": challenge.recipient}


@app.post("/second-factor/code")
def check() -> dict[str, bool]:
    otpvoice.verify_code(session["challenge"], request.form["code"], purpose="login", subject=session["account"])
    session["second_factor"] = True
    return {"approved": True}


@app.errorhandler(otpvoice.OTPVoiceError)
def refused(error: otpvoice.OTPVoiceError) -> tuple[dict[str, str], int]:
    shown = isinstance(error, otpvoice.InvalidRequest | otpvoice.Refused | otpvoice.VerificationFailed)
    return {"detail": str(error) if shown else "try again later"}, 403 if shown else 503
