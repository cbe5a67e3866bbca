"""Log in by phone with FastAPI: `uvicorn fastapi_login:app`, configured by OTPVOICE_… in the environment."""

from typing import Annotated

from fastapi import Body, Cookie, FastAPI, Request, Response
from fastapi.responses import JSONResponse

import otpvoice

app = FastAPI()


@app.post("/login")
async def login(phone: Annotated[str, Body(embed=True)], request: Request, response: Response) -> dict[str, str | None]:
    client = request.client.host if request.client else None
    challenge = await otpvoice.aissue_code(phone, purpose="login", client=client)
    response.set_cookie("challenge", challenge.id, httponly=True, secure=True, samesite="strict")
    return {"called": challenge.recipient}


@app.post("/login/code")
async def check(code: Annotated[str, Body(embed=True)], challenge: Annotated[str, Cookie()]) -> dict[str, str]:
    verified = await otpvoice.averify_code(challenge, code, purpose="login")
    return {"welcome": str(verified.recipient)}  # Open the session of whoever has this number.


@app.exception_handler(otpvoice.OTPVoiceError)
async def refused(_: Request, error: otpvoice.OTPVoiceError) -> JSONResponse:
    shown = isinstance(error, otpvoice.InvalidRequest | otpvoice.Refused | otpvoice.VerificationFailed)
    return JSONResponse({"detail": str(error) if shown else "try again later"}, 403 if shown else 503)
